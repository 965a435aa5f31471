"""nginx and Caddy with TLS, by the very files of deploy/routers: nothing is held back, nothing
reaches the public that is not for it, and what a replica says of its own state reaches the client.

The replicas run in this process, over engines that say their next token when the test tells them.
"""

import json
import logging
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.support import fake_engine, live, ready_state, says
from tests.deploy.routers import running_router
from tests.deploy.routers.replicas import wait_for
from tests.deploy.routers.running_router import (
    CHAT,
    FILES,
    ROUTERS,
    RunningRouter,
    free_port,
)
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import Phase, ServerState

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = HELLO | {"stream": True}
TEXT = "So far, so good."
TLS = [name for name, router in ROUTERS.items() if router.is_tls]
MIB = 1 << 20
OPEN = ApiConfig(open_metrics=True, access_log=True)


@dataclass
class Turns:
    """An output comes for each that the test grants."""

    granted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def is_set(self) -> bool:
        return self.granted.acquire(blocking=False)

    def grant(self, number: int = 1) -> None:
        if number:
            self.granted.release(number)


@dataclass
class Stage:
    """Two replicas that say `TEXT` by turns, and what stands in front of them."""

    front: RunningRouter
    replicas: list[str]  # their own URLs
    states: tuple[ServerState, ServerState]
    turns: Turns

    @property
    def engines(self) -> list[Any]:
        return [state.engine for state in self.states]

    def left(self) -> int:
        return sum(len(engine.aborted) for engine in self.engines)

    def post(self, **options: Any) -> httpx.Response:
        asked = {"json": HELLO} if "content" not in options else {}
        url, trust = f"{self.front.url}{CHAT}", self.front.trust
        return httpx.post(url, timeout=60, verify=trust, **(asked | options))

    def stream(self) -> AbstractContextManager[httpx.Response]:
        return self.front.stream(STREAM)


@contextmanager
def stage(name: str, folder: Path, config: ApiConfig) -> Iterator[Stage]:
    turns = Turns()

    def state() -> ServerState:
        return ready_state(fake_engine(says(TEXT), gate=turns, max_num_seqs=2))

    states = state(), state()
    with ExitStack() as stack:
        urls = [stack.enter_context(live(state, config)) for state in states]
        ports = [int(url.rpartition(":")[2]) for url in urls]
        front = ROUTERS[name].start(ports, folder)
        stack.callback(front.stop)
        yield Stage(front, urls, states, turns)


@pytest.fixture(params=TLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def staged(name: str, tmp_path: Path) -> Iterator[Stage]:
    with stage(name, tmp_path, OPEN) as made:
        yield made


class Curl:
    """A client that speaks HTTP/2, and sends a path as it is."""

    def __init__(self, folder: Path) -> None:
        said = subprocess.run(["curl", "--version"], capture_output=True, text=True)
        if "HTTP2" not in said.stdout:
            pytest.skip("HTTP/2 SKIPPED: this curl does not speak it")
        self._trust = str(folder / "localhost.crt")

    def command(self, url: str, *options: str) -> list[str]:
        always = ["--silent", "--show-error", "--no-buffer", "--http2", "--cacert", self._trust]
        return ["curl", *always, "--path-as-is", *options, url]

    def run(self, url: str, *options: str) -> str:
        done = subprocess.run(
            self.command(url, *options), capture_output=True, text=True, timeout=60
        )
        return done.stdout + (f"curl: {done.returncode}" if done.returncode else "")

    def streaming(self, url: str, body: str, *options: str) -> "subprocess.Popen[str]":
        asked = ["--header", "content-type: application/json", "--data", body, *options]
        return subprocess.Popen(self.command(url, *asked), stdout=subprocess.PIPE, text=True)


@pytest.fixture
def curl(tmp_path: Path) -> Curl:
    return Curl(tmp_path)


def test_its_own_check_finds_nothing(name: str, tmp_path: Path) -> None:
    """`nginx -t`, `caddy validate`; not even a warning of what is written in ours."""
    router = ROUTERS[name]
    program = router.package.installed()
    command, variables = router.command(program, (8001, 8002), 8443, tmp_path)
    check = [*command, "-t"] if name == "nginx" else [command[0], "validate", *command[2:]]
    done = subprocess.run(check, capture_output=True, text=True, env={"PATH": "", **variables})
    assert done.returncode == 0, done.stderr
    assert not re.findall(r"\[warn\]|\[emerg\]|not formatted", done.stderr), done.stderr


def events(lines: Iterator[str]) -> Iterator[str]:
    return (line.removeprefix("data: ").strip() for line in lines if line.startswith("data: "))


def content(event: str) -> str:
    if event == "[DONE]":
        return ""
    return str(json.loads(event)["choices"][0]["delta"].get("content") or "")


def test_each_event_comes_before_the_next_one_is_made(staged: Stage) -> None:
    """The next token is granted when the last one has come: who holds one back waits for ever."""
    text, event = "", ""
    staged.turns.grant()
    with staged.stream() as answer:
        for event in events(answer.iter_lines()):
            if said := content(event):
                text += said
                staged.turns.grant()
    assert (text, event) == (TEXT, "[DONE]")


def test_over_http_2_too_and_who_leaves_is_noticed(staged: Stage, curl: Curl) -> None:
    """The connection stays for others there: it is the stream that is reset."""
    body = '{"model":"tiny","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
    url = f"{staged.front.url}{CHAT}"
    text, last = "", ""
    staged.turns.grant()
    with curl.streaming(url, body, "--write-out", "HTTP/%{http_version}\n") as whole:
        assert whole.stdout is not None
        for last in whole.stdout:
            for said in map(content, events(iter([last]))):
                text += said
                staged.turns.grant(bool(said))
    assert (text, last) == (TEXT, "HTTP/2\n")
    staged.turns.grant()
    with curl.streaming(url, body) as leaving:
        assert leaving.stdout is not None
        next(events(leaving.stdout))
        leaving.kill()
    wait_for(lambda: staged.left() == 1, "the answer was left, and ended")


def test_a_whole_body_comes_through_and_what_is_too_large_is_the_replicas_413(
    staged: Stage,
) -> None:
    """4 MiB are the server's own limit, so the proxy's must not come before it."""
    for num_chars in (100_000, 4 * MIB - 200):
        long = {"role": "user", "content": "x" * num_chars}
        answer = staged.post(json=HELLO | {"messages": [long]})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
    answer = staged.post(content=b"x" * (4 * MIB + 1), headers={"content-type": "application/json"})
    direct = httpx.post(f"{staged.replicas[0]}{CHAT}", content=b"x" * (4 * MIB + 1))
    assert answer.status_code == direct.status_code == 413
    assert answer.json()["error"]["message"] == direct.json()["error"]["message"]


PATHS = ("/metrics", "/metrics/", "//metrics", "/%6detrics", "/./metrics", "/a/../metrics")
ODD_PATHS = ("/metrics//", "/metrics%2F", "/metrics/../metrics", "/%2Fmetrics", "/%2e/metrics")


@pytest.mark.parametrize("path", [*PATHS, *ODD_PATHS, "/metrics?a=1", "/metrics/?a=1"])
def test_metrics_are_public_by_no_path(staged: Stage, curl: Curl, path: str) -> None:
    assert "# HELP" in httpx.get(f"{staged.replicas[0]}/metrics").text
    for options in ((), ("--request", "POST"), ("--http1.1",)):
        answer = curl.run(f"{staged.front.url}{path}", *options)
        assert "thirdeye_" not in answer, options


@pytest.mark.parametrize("claimed", [None, "203.0.113.7"])
def test_a_replica_is_told_who_asks_and_nobody_else_can_say_it(
    staged: Stage, caplog: pytest.LogCaptureFixture, claimed: str | None
) -> None:
    """What a client says of itself goes no further; where no proxy is in between, it is ignored."""
    caplog.set_level(logging.INFO, "thirdeye.access")
    headers = {} if claimed is None else {"x-forwarded-for": claimed, "forwarded": f"for={claimed}"}
    staged.turns.grant(100)
    with httpx.Client(
        transport=httpx.HTTPTransport(verify=staged.front.trust, local_address="127.0.0.2"),
        timeout=60,
    ) as client:
        # A name would be looked up, and be the other family's address.
        port = staged.front.url.rpartition(":")[2]
        extensions = {"sni_hostname": "localhost"}
        url = f"https://127.0.0.1:{port}{CHAT}"
        named = {"host": "localhost", **headers}
        answer = client.post(url, json=HELLO, headers=named, extensions=extensions)
        assert answer.status_code == 200, answer.text
        client.post(f"{staged.replicas[0]}{CHAT}", json=HELLO, headers=headers)
    asked = [r.getMessage() for r in caplog.records if r.name == "thirdeye.access"]
    clients = [line for line in asked if CHAT in line]
    assert len(clients) == 2
    assert all('"client": "127.0.0.2"' in line for line in clients), clients


def set_loading(staged: Stage, number: int) -> None:
    """So many of the replicas; and a router that asks for their readiness has heard."""
    for state, url in zip(staged.states[:number], staged.replicas, strict=False):
        state.phase = Phase.LOADING
        if staged.front.asks_readiness:
            wait_for(lambda url=url: num_unready(url) >= 2, "the router has asked")


def num_unready(url: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    said = [line for line in lines if 'route="/ready",status="503"' in line]
    return sum(float(line.split()[-1]) for line in said)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_of_all_replicas_comes_with_its_moment_each_time(
    staged: Stage, status: int
) -> None:
    """Also when the proxy has learned that nobody is there, and answers itself."""
    if status == 503:
        set_loading(staged, 2)
    for state in staged.states if status == 429 else ():
        state.admission.admit(6)
    for _ in range(3):
        answer = staged.post()
        assert answer.status_code == status, answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["message"]


def test_where_nobody_listens_that_is_said_with_a_moment_to_come_back(
    name: str, tmp_path: Path
) -> None:
    front = ROUTERS[name].start((free_port(), free_port()), tmp_path, is_alone=True)
    try:
        answer = front.post(HELLO)
    finally:
        front.stop()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "no_replica"


def test_who_loads_again_is_passed_by(staged: Stage) -> None:
    set_loading(staged, 1)
    staged.turns.grant(1000)
    for i in range(12):
        assert staged.post(headers={"x-session-id": f"{i}"}).status_code == 200


@pytest.mark.parametrize("ping", [0.5, 0.0])
def test_silence_is_longer_than_the_proxy_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ping: float
) -> None:
    """nginx gives up on who says nothing for so long: pings keep a stream. Without them it breaks,
    so that it is they that do."""
    files = shutil.copytree(FILES, tmp_path / "files")
    text = (files / "nginx.conf").read_text()
    assert "proxy_read_timeout 600s" in text
    (files / "nginx.conf").write_text(text.replace("read_timeout 600s", "read_timeout 3s"))
    monkeypatch.setattr(running_router, "FILES", files)
    with stage("nginx", tmp_path, ApiConfig(sse_ping=ping)) as staged:
        timer = threading.Timer(8, staged.turns.grant, (100,))
        staged.turns.grant()
        text, is_whole = "", True
        with staged.stream() as answer:
            timer.start()
            try:
                for part in answer.iter_text():
                    text += part
            except httpx.TransportError:
                is_whole = False
        timer.cancel()
        assert ("[DONE]" in text, is_whole) == (bool(ping), bool(ping))
        assert text.count(": keepalive") >= 3 or not ping
