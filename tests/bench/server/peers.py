"""The servers that are measured side by side: ours, llama.cpp's and its relatives', any other."""

import shlex
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench.server.bench_serve import ARGS, one
from tests.bench.server.light import with_wire
from tests.e2e.live import LiveServer

Figures = dict[str, float]


@dataclass
class Peer:
    """One server under measurement, and what its rounds gave."""

    name: str
    url: str
    pids: list[int] = field(default_factory=list)
    is_ours: bool = False
    ways: tuple[str, str] = ("auto", "auto")  # ours: `--quantize`, `--kv-dtype`
    file: Path | None = None  # another than the one that is served by us
    start: float | None = None  # seconds from its command to its first token
    rounds: list[Figures] = field(default_factory=list)

    def medians(self) -> Figures:
        figures = {name: statistics.median(r[name] for r in self.rounds) for name in self.rounds[0]}
        if self.start is not None:
            figures["start to first token, s"] = self.start
        if self.pids:
            figures["resident, GB"] = sum(map(resident, self.pids)) / 1e9
        return figures


@dataclass(frozen=True)
class Spec:
    """NAME=WHAT, as a command line has it."""

    name: str
    what: str

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Raises ValueError for what has no name, or nothing behind it."""
        name, equals, what = text.partition("=")
        if not (name and equals and what.strip()):
            raise ValueError(f"NAME=… is wanted, got {text!r}")
        return cls(name, what)


@contextmanager
def ours(spec: Spec, gguf: Path) -> Iterator[Peer]:
    """`thirdeye serve` on the file, with these arguments more."""
    begun, more = time.monotonic(), shlex.split(spec.what)
    server = LiveServer([str(gguf), "--served-model-name", "smollm2", *ARGS, *more]).start()
    try:
        first_token(server.url)
        peer = Peer(spec.name, server.url, [server.process.pid, *server.children()])
        peer.is_ours, peer.start = True, time.monotonic() - begun
        peer.ways = (said(more, "--quantize"), said(more, "--kv-dtype"))
        yield peer
    finally:
        server.stop()


def said(arguments: list[str], name: str) -> str:
    """What follows an option, the last time; else auto."""
    places = [i for i, word in enumerate(arguments[:-1]) if word == name]
    return arguments[places[-1] + 1] if places else "auto"


def llama_command(what: str, gguf: Path, port: int, slots: int, threads: int) -> list[str]:
    """llama.cpp's server or one that takes its arguments; of what is said twice the last counts."""
    binary, *more = shlex.split(what)
    sizes = ["--parallel", str(slots), "--ctx-size", str(slots * 1024)]
    counts = ["--threads", str(threads), "--threads-batch", str(threads)]
    return [binary, "--model", str(gguf), "--port", str(port), *sizes, *counts, *more]


def started(spec: Spec, gguf: Path, slots: int, threads: int) -> AbstractContextManager[Peer]:
    """A peer: its address if it runs already, else a command."""
    if spec.what.startswith(("http://", "https://")):
        return nullcontext(Peer(spec.name, spec.what.rstrip("/")))
    command = llama_command(spec.what, gguf, free_port(), slots, threads)
    return llama_server(spec.name, command, gguf)


@contextmanager
def llama_server(name: str, command: list[str], gguf: Path) -> Iterator[Peer]:
    file = model_of(command)
    url = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_ready(url):
            if process.poll() is not None:
                raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}")
            time.sleep(0.02)
        first_token(url)
        start = time.monotonic() - begun
        other = file if file.resolve() != gguf.resolve() else None
        yield Peer(name, url, [process.pid], file=other, start=start)
    finally:
        process.terminate()
        process.wait()


def model_of(command: list[str]) -> Path:
    """The file that it serves: the last that is said."""
    said = [i for i, word in enumerate(command) if word in ("--model", "-m")]
    return Path(command[said[-1] + 1])


def resident(pid: int) -> int:
    """Bytes of memory of a process that are its own, and its share of what others have too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def first_token(url: str) -> None:
    with_wire(url, lambda wire: one(wire, 0, 1))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
