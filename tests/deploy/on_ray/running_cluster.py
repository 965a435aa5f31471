"""`thirdeye cluster up` in an environment with Ray, and what a client of it sees."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.on_ray.namespace import Namespace
from thirdeye.server.cluster.ray_head import command_of, pids_of

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "tiny", "temperature": 0, "ignore_eos": True, "stream": True}
STARTING, ENDING = 600.0, 120.0  # seconds, on a machine that does much else
PORT = 8000


@dataclass(frozen=True)
class Told:
    """What one stream read."""

    events: tuple[dict[str, Any], ...]
    is_done: bool  # `[DONE]` came
    broke: str = ""  # how the connection ended, if not as HTTP wants it

    @property
    def is_whole(self) -> bool:
        return self.is_done and not self.broke and not self.error

    @property
    def error(self) -> dict[str, Any] | None:
        return next((event["error"] for event in self.events if "error" in event), None)

    @property
    def text(self) -> str:
        choices = (event["choices"] for event in self.events if event.get("choices"))
        return "".join(choice[0]["delta"].get("content") or "" for choice in choices)

    @property
    def cached_and_prompt(self) -> tuple[int, int]:
        usage = next(event["usage"] for event in self.events if event.get("usage"))
        return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


class Cluster:
    """`options` are those of each `up`; a later `up` with others rolls them out."""

    def __init__(self, python: Path, namespace: Namespace, folder: Path, *options: str) -> None:
        self.python, self.namespace, self.folder, self.options = python, namespace, folder, options
        self.url = f"http://127.0.0.1:{PORT}"
        self.output = ""
        self.process = subprocess.Popen(
            self._command("up", *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_for(lambda: "Ready: " in self.output or not self._reader.is_alive(), "it is ready")
        assert "Ready: " in self.output, self.output

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def _command(self, verb: str, *options: str) -> list[str]:
        program = [str(self.python), "-P", "-m", "thirdeye.server.cli", "cluster"]
        return [*program, verb, "--state-dir", str(self.folder), *options]

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = self._command(verb, *options)
        return subprocess.run(command, capture_output=True, text=True, timeout=STARTING)

    def roll_out(self, *options: str) -> None:
        done = self.run("up", *self.options, *options)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(ENDING + STARTING)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    # --- its processes ---

    def pids(self, mark: str) -> list[int]:
        """Those whose command has this in it."""
        found = []
        for pid in pids_of(self.folder):
            try:
                if any(mark in word for word in command_of(pid)):
                    found.append(pid)
            except OSError:
                continue
        return sorted(found)

    def replicas(self) -> list[int]:
        return self.pids("ray::ServeReplica:default:thirdeye")

    def engines(self) -> list[int]:
        return self.pids("thirdeye.server.load.engine_main")

    def ports(self) -> list[int]:
        """The replicas' own, as the kernel tells them: quicker than to ask Ray."""
        done = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True)
        owners = [f"pid={pid}," for pid in self.replicas()]
        found = (line.split() for line in done.stdout.splitlines())
        return sorted(
            int(words[3].rpartition(":")[2])
            for words in found
            if words[3].startswith("127.0.0.1:3") and any(pid in words[-1] for pid in owners)
        )

    def gauge(self, name: str) -> list[float]:
        """Of each replica, asked at its own port."""
        found = []
        for port in self.ports():
            lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text.splitlines()
            named = (line for line in lines if line.startswith(f"thirdeye_{name}"))
            found.append(sum(float(line.split()[-1]) for line in named))
        return found

    # --- its clients ---

    def post(self, text: str, **more: Any) -> httpx.Response:
        body = {**BODY, "stream": False, "max_tokens": 1, **more}
        body["messages"] = [{"role": "user", "content": text}]
        return httpx.post(f"{self.url}{CHAT}", json=body, timeout=300)

    def stream(self, text: str, begun: Callable[[], object] = int, **more: Any) -> Told:
        headers = {"x-session-id": more.pop("session")} if "session" in more else {}
        messages = more.pop("messages", [{"role": "user", "content": text}])
        usage = {"stream_options": {"include_usage": True}}
        body = {**BODY, **usage, "messages": messages, **more}
        events: list[dict[str, Any]] = []
        is_done = False
        try:
            with httpx.stream(
                "POST", f"{self.url}{CHAT}", json=body, headers=headers, timeout=600
            ) as answer:
                if not answer.is_success:
                    return Told((), False, f"{answer.status_code} {answer.read().decode()[:200]}")
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        events.append(json.loads(line.removeprefix("data: ")))
                        if len(events) == 2:
                            begun()
                    is_done = is_done or line == "data: [DONE]"
        except httpx.TransportError as error:
            return Told(tuple(events), is_done, type(error).__name__)
        return Told(tuple(events), is_done)

    def streams(self, number: int, max_tokens: int) -> "Streams":
        return Streams(self, number, max_tokens)

    def probes_while(self, is_going_on: Callable[[], bool], at_least: int = 20) -> list[int]:
        """The statuses of short requests, one after the other; 0 for a connection that broke."""
        found: list[int] = []
        while len(found) < at_least or is_going_on():
            try:
                found.append(self.post(f"Probe {len(found)}").status_code)
            except httpx.TransportError:
                found.append(0)
        return found


class Streams:
    """Many at once, all begun when its context is entered."""

    def __init__(self, cluster: Cluster, number: int, max_tokens: int) -> None:
        self._cluster, self._number, self._max_tokens = cluster, number, max_tokens
        self._pool = ThreadPoolExecutor(number, initializer=cluster.namespace.enter)
        self._told: list[Future[Told]] = []

    def __enter__(self) -> "Streams":
        begun = threading.Semaphore(0)
        for i in range(self._number):
            self._told.append(
                self._pool.submit(
                    self._cluster.stream,
                    f"Tell number {i * 7919} a story.",
                    begun.release,
                    max_tokens=self._max_tokens,
                )
            )
        for _ in self._told:
            assert begun.acquire(timeout=STARTING), "a stream has not begun"
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def is_going_on(self) -> bool:
        return not all(told.done() for told in self._told)

    def num_running(self) -> int:
        return sum(not told.done() for told in self._told)

    def ends(self) -> list[Told]:
        return [told.result(STARTING) for told in self._told]


def wait_for(is_so: Callable[[], object], what: str, seconds: float = STARTING) -> float:
    """How long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def listening(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of `ss -ltnp`: local address and process."""
    for line in lines:
        words = line.split()
        if words and words[0] == "LISTEN":
            yield words[3], words[-1]
