"""The judges judge: good answers pass, and each way of being wrong is seen, on the wire too."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.api.support import client_of
from tests.oracles.openai_schema import faults_of_answer, faults_of_event, validator
from tests.oracles.wire import EVENTS, Wire

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = {"id": "x-1", "created": 1, "model": "tiny"}
CHAT = {
    **HEAD,
    "object": "chat.completion",
    "usage": USAGE,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "timings": {"queue_ms": 0.0},
}
TEXT = {
    **HEAD,
    "object": "text_completion",
    "choices": [
        {
            "index": 0,
            "text": "ab",
            "finish_reason": None,
            "logprobs": {
                "tokens": ["a", "b"],
                "token_logprobs": [None, -0.5],
                "top_logprobs": [None, {"b": -0.5}],
                "text_offset": [0, 1],
            },
        }
    ],
    "usage": None,
}
ERROR = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}}


def changed(value: Any, *path: Any, to: Any = ...) -> Any:
    """A copy with one place changed, or with one key gone."""
    value = copy.deepcopy(value)
    *way, last = path
    inner = value
    for step in way:
        inner = inner[step]
    if to is ...:
        del inner[last]
    else:
        inner[last] = to
    return value


def test_good_answers_pass() -> None:
    assert faults_of_answer("/v1/chat/completions", 200, CHAT) == []
    assert faults_of_answer("/v1/completions", 200, changed(TEXT, "usage", to=USAGE)) != []
    assert faults_of_event("/v1/completions", TEXT) == []
    assert faults_of_answer("/completions", 404, ERROR) == []


@pytest.mark.parametrize(
    "wrong",
    [
        changed(CHAT, "choices", 0, "logprobs"),
        changed(CHAT, "choices", 0, "message", "refusal"),
        changed(CHAT, "choices", 0, "message", "annotations", to=None),
        changed(CHAT, "choices", 0, "finish_reason", to=None),
        changed(CHAT, "choices", 0, "finish_reason", to="abort"),
        changed(CHAT, "usage", "prompt_tokens_details", to=None),
        changed(CHAT, "usage", to=None),
        changed(CHAT, "created", to=1.5),
        changed(CHAT, "object", to="chat.completion.chunk"),
        ERROR,
    ],
)
def test_wrong_chat_answers_are_seen(wrong: Any) -> None:
    """Each of these is what some server of the field answers."""
    assert faults_of_answer("/v1/chat/completions", 200, wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        changed(ERROR, "error", "param"),
        changed(ERROR, "error", "code", to=400),
        changed(ERROR, "error", "message", to=None),
        {"detail": "Not found"},
    ],
)
def test_wrong_errors_are_seen(wrong: Any) -> None:
    assert faults_of_answer("/v1/models", 404, wrong)
    assert faults_of_event("/v1/completions", wrong)


@pytest.mark.parametrize("path", ["/tokenize", "/v1/timeline", "/metrics"])
def test_what_nobody_published_passes(path: str) -> None:
    assert faults_of_answer(path, 200, {"anything": None}) == []


@pytest.mark.parametrize("name", ["Message", "MessageStreamEvent", "ErrorResponse"])
def test_a_schema_stands_on_its_own(name: str) -> None:
    """What it refers to came along: a missing one would only show in an answer that needs it."""
    assert not validator("anthropic", name).is_valid({})


def read(body: bytes, kind: str = "application/json", path: str = "/v1/chat/completions") -> None:
    """Ask an app that answers with `body`, as a test asks the server."""

    async def main() -> None:
        answer = Response(body, media_type=kind, headers={"x-request-id": "req_1"})
        app = Starlette(routes=[Route(path, lambda _: answer)])
        async with client_of(app) as client:
            await client.get(path)

    asyncio.run(main())


CHUNK = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
)
DONE = b"data: [DONE]\n\n"
WRONG_STREAMS: list[Callable[[], None]] = [
    lambda: read(b'{"id": "x"}'),
    lambda: read(CHUNK, EVENTS),
    lambda: read(DONE + CHUNK, EVENTS),
    lambda: read(CHUNK + DONE + DONE, EVENTS),
    lambda: read(CHUNK.replace(b"[]", b"[{}]") + DONE, EVENTS),
    lambda: read(CHUNK.replace(b"\n", b"\r\n") + DONE, EVENTS),
    lambda: read(CHUNK + DONE + b"data: {", EVENTS),
    lambda: read(CHUNK + DONE, "text/plain"),
    lambda: read(b"event: ping\n\n" + CHUNK + DONE, EVENTS),
]


@pytest.mark.parametrize("ask", WRONG_STREAMS)
def test_nothing_wrong_gets_by_on_the_wire(ask: Callable[[], None], wire: Wire) -> None:
    ask()
    assert wire.faults
    wire.faults.clear()


def test_a_good_stream_gets_by(wire: Wire) -> None:
    before = wire.num_judged
    read(b": keepalive\n\n" + CHUNK + DONE, EVENTS)
    assert not wire.faults
    assert wire.num_judged > before
