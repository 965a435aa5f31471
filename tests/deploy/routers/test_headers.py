"""Which headers reach a replica (a key, an id, who is behind a gateway), and whether a 429 of the
replica's reaches the client with its moment to come back.

The replica is a few lines that write down what comes: it is the router that is tried.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy.routers.replicas import wait_for
from tests.deploy.routers.running_router import CHAT, ROUTERS, RunningRouter

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]
SENT = {
    "authorization": "Bearer a-key",
    "x-request-id": "ours-1",
    "x-session-id": "conversation-1",
    "x-caller": "ann",
}
FULL = {"authorization": "Bearer of-one-who-has-had-enough"}
CLAIMED = {"x-forwarded-for": "203.0.113.7"}
BELIEVES = {"vllm-router"}  # what a client says of its own address
LOST = {  # what docs/cluster.md says does not come through
    "smg": {"x-session-id", "x-caller"},
}


class Replica(BaseHTTPRequestHandler):
    """Ready, and glad of whatever is asked."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        models = {
            "object": "list",
            "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "us"}],
        }
        self._answer(models if self.path == "/v1/models" else {"status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers["authorization"] == FULL["authorization"]:
            error = {"message": "Later.", "type": "requests", "param": None, "code": None}
            self._answer({"error": error}, status=429)
            return
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        message = {"role": "assistant", "content": "Yes.", "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        whole = {"id": "a", "object": "chat.completion", "created": 1, "model": "tiny"}
        self._answer(whole | {"choices": [choice], "usage": usage})

    def _answer(self, body: object, status: int = 200) -> None:
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        if status == 429:
            self.send_header("retry-after", "7")
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def stubs() -> Iterator[tuple[list[int], list[dict[str, str]]]]:
    """The ports of two replicas, and what they have seen."""
    seen: list[dict[str, str]] = []
    handler = type("Recorder", (Replica,), {"seen": seen})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [server.server_address[1] for server in servers], seen
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=ROUTERS)
def front(
    request: pytest.FixtureRequest, stubs: tuple[list[int], object], tmp_path: Path
) -> Iterator[RunningRouter]:
    running = ROUTERS[request.param].start(stubs[0], tmp_path)
    yield running
    running.stop()


def test_headers_and_refusals_come_through(
    front: RunningRouter,
    stubs: tuple[list[int], list[dict[str, str]]],
    request: pytest.FixtureRequest,
) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}

    def ask(headers: dict[str, str]) -> httpx.Response:
        url = f"{front.url}{CHAT}"
        return httpx.post(url, json=body, headers=headers, timeout=60, verify=front.trust)

    wait_for(lambda: ask(SENT).status_code == 200, "an answer")
    arrived = {name for name, value in SENT.items() if stubs[1][-1].get(name) == value}
    name = request.node.callspec.params["front"]
    assert set(SENT) - arrived == LOST.get(name, set())
    assert ask(CLAIMED).status_code == 200
    told = stubs[1][-1].get("x-forwarded-for", "").rpartition(",")[2].strip()
    assert (told == CLAIMED["x-forwarded-for"]) is (name in BELIEVES), told
    refused = ask(FULL)
    assert (refused.status_code, refused.headers.get("retry-after")) == (429, "7"), refused.text
