"""What of a server's two processes lies in memory."""

from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.live import LiveServer


@dataclass
class Resident:
    """Bytes of a process that lie in memory."""

    own: int = 0
    code: int = 0  # of files: what can be executed of them
    data: int = 0  # of files: all else, as long as nobody has written there

    @classmethod
    def of(cls, pid: int) -> "Resident":
        sizes = cls()
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            first, second, *_ = line.split()
            if not first.endswith(":"):  # address range, permissions, offset, device, inode, file
                is_code = "x" in second
            elif first == "Rss:":
                rss = 1024 * int(second)
            elif first == "Anonymous:":
                own = 1024 * int(second)
                sizes.own += own
                sizes.code += (rss - own) * is_code
                sizes.data += (rss - own) * (not is_code)
        return sizes


def after_an_answer(server: LiveServer) -> tuple[Resident, Resident]:
    """(the server's process, the engine's), of a server that nobody has asked before."""
    body = {"model": "smollm2", "prompt": "One two", "max_tokens": 4}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False)
    assert answer.status_code == 200, answer.text
    (engine,) = server.children()  # no process tries grammars before the first is asked
    return Resident.of(server.process.pid), Resident.of(engine)


@dataclass
class DefaultServer:
    """`thirdeye serve` with nothing said, and what it took when one answer was given."""

    server: LiveServer
    after_an_answer: tuple[Resident, Resident]
