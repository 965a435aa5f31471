"""A real server in its own process, started as a user starts it and read as a user reads it."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tests.e2e.procfs import children, runs_module

ENGINE = "thirdeye.server.load.engine_main"
READY = re.compile(r"Ready: (http://\S+)")
ROOT = Path(__file__).resolve().parents[2]
COMMAND = (
    sys.executable,
    "-P",
    "-m",
    "thirdeye.server.cli",
)  # what the script `thirdeye` runs


@dataclass
class LiveServer:
    """`thirdeye serve ARGS` on a free port. `lines` is all it has printed so far."""

    args: list[str]
    env: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    url: str = ""
    cwd: Path = ROOT
    command: tuple[str, ...] = COMMAND
    seconds_to_ready: float = 0.0

    def start(self, timeout: float = 200.0) -> "LiveServer":
        started = time.monotonic()
        self.process = subprocess.Popen(
            [*self.command, "serve", "--port", "0", *self.args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.cwd,
            env={**os.environ, **self.env},  # noqa: TID251 (a child wants a whole one)
        )
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()
        while not self.url:
            has_ended = self.process.poll() is not None
            if has_ended or time.monotonic() - started > timeout:
                self.kill()
                why = "" if has_ended else f"not within {timeout:g} s: "
                raise RuntimeError(f"{why}the server did not start:\n" + "".join(self.lines))
            time.sleep(0.01)
        self.seconds_to_ready = time.monotonic() - started
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := READY.search(line):
                self.url = match.group(1).rstrip("/")

    def stop(self, timeout: float = 100.0) -> int:
        """SIGTERM, as a container runtime sends it; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        finally:
            self.kill()
        return status

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def children(self) -> list[int]:
        """Processes whose parent is the server: the engine's, and those that try grammars."""
        return children(self.process.pid)

    def engines(self) -> list[int]:
        """The engine's process; none while the next one has not begun."""
        return [pid for pid in self.children() if runs_module(pid, ENGINE)]
