"""Two replicas of one tiny model at ports that stay theirs: one that ended comes back there."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.routers.running_router import CHAT, free_port
from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama

DRAIN_DELAY = 5
OPTIONS = (
    *("--served-model-name", "tiny", "--max-num-seqs", "16", "--quantize", "none"),
    *("--threads", "1", "--vllm-metrics"),
    *("--drain-delay", str(DRAIN_DELAY), "--drain-timeout", "120"),
)


class Replicas:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tiny_llama(folder, context=4096)
        self.ports = (free_port(), free_port())
        self.servers = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> LiveServer:
        return LiveServer([str(self._folder), *OPTIONS, "--port", str(port)]).start()

    def bring_back(self) -> None:
        """Those that ended."""
        for i, server in enumerate(self.servers):
            if server.process.poll() is not None:
                server.kill()  # what is left of it: its pipe
                self.servers[i] = self._start(self.ports[i])

    def close(self) -> None:
        for server in self.servers:
            server.kill()

    def post(self, body: dict[str, Any]) -> httpx.Response:
        """A chat request to one of them, and its whole answer."""
        return httpx.post(f"{self.alive()[-1].url}{CHAT}", json=body, timeout=300)

    def stream(self, body: dict[str, Any]) -> AbstractContextManager[httpx.Response]:
        return httpx.stream("POST", f"{self.alive()[-1].url}{CHAT}", json=body, timeout=300)

    def running(self) -> list[int]:
        """Answers under way at each that lives."""
        return [int(total(server, "vllm:num_requests_running")) for server in self.alive()]

    def alive(self) -> list[LiveServer]:
        return [server for server in self.servers if server.process.poll() is None]


def total(server: LiveServer, name: str, labels: str = "") -> float:
    """The sum of a metric's series, of those with these labels."""
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    lines = (line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.split()[-1]) for line in lines if labels in line)


def wait_for(is_so: Callable[[], bool], what: str, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
