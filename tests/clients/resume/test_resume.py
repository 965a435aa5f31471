"""`resume=True`: an answer whose server goes away is read on from another one, without a seam.

Servers over the fake engine here, behind a wire that is cut after any number of bytes; real ones
die in tests/e2e/clients/test_resumed_streams.py.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.api.support import EOS, Served, fake_engine, live, ready_state
from tests.clients.resume.cutting_wire import CuttingWire
from tests.clients.resume.read_stream import ReadStream, read
from tests.clients.stub import Stub, chat_events, event
from thirdeye.clients import AsyncClient, Client, NotResumed, ServerError

IDS = [*"Grüße, 世界! 🎉 A long tail of words, again and again".encode(), EOS]
GREEDY: dict[str, Any] = {"temperature": 0}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"stop": ["again and"]},
    {"max_tokens": 20},
    {"seed": 7, "temperature": 1.2},
    {"logprobs": True, "top_logprobs": 2},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
]


class Pair:
    """Two servers of one model, and their wires: `cuts` are the bytes that come through next."""

    def __init__(self, stack: ExitStack) -> None:
        self.cuts: list[int | None] = []
        self.servers = []
        self.wires = []
        for _ in range(2):
            state = ready_state(fake_engine(IDS))
            server = Served(stack.enter_context(live(state)), state)
            self.servers.append(server)
            self.wires.append(stack.enter_context(CuttingWire(server.url, self._next)))

    def _next(self) -> int | None:
        return self.cuts.pop(0) if self.cuts else None

    @property
    def urls(self) -> list[str]:
        return [wire.url for wire in self.wires]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


@pytest.fixture(autouse=True)
def whole(pair: Pair) -> None:
    pair.cuts = []
    for server in pair.servers:
        server.use(fake_engine(IDS))


def ask(client: Client, options: dict[str, Any], *, resume: bool = True) -> ReadStream:
    """Chat, or completions where the logprobs are a number."""
    params = GREEDY | {"return_token_ids": True} | options
    if type(params.get("logprobs")) is int:
        return read(client.stream("Hi", max_tokens=60, resume=resume, **params))
    return read(client.stream_chat("Hi", resume=resume, **params))


@pytest.mark.parametrize("options", [*OPTIONS, {"logprobs": 1}], ids=str)
def test_a_cut_anywhere_leaves_no_seam(pair: Pair, options: dict[str, Any]) -> None:
    chance = random.Random(str(options))
    with Client(pair.urls, model="tiny", stream_timeout=20) as client:
        expected = ask(client, options, resume=False)
        for _ in range(8):
            pair.cuts = [chance.randrange(1, 9000) for _ in range(chance.randrange(1, 4))]
            assert ask(client, options) == expected
        assert all(wire.num_cuts for wire in pair.wires)


def test_a_cut_at_each_of_the_last_bytes_leaves_no_seam(pair: Pair) -> None:
    """Where an answer has ended and its end has not been told, or only a part of that."""
    with Client(pair.urls, model="tiny", stream_timeout=20) as client:
        expected = ask(client, {"max_tokens": 3})
        for cut in range(300, 3000, 90):
            pair.cuts = [cut]
            assert ask(client, {"max_tokens": 3}) == expected


def test_the_async_client_does_the_same(pair: Pair) -> None:
    with Client(pair.urls, model="tiny", stream_timeout=20) as client:
        expected = ask(client, {})

    async def main() -> str:
        pair.cuts = [2500, 3000]
        async with AsyncClient(pair.urls, model="tiny", stream_timeout=20) as client:
            async with client.stream_chat("Hi", resume=True, **GREEDY) as stream:
                text = "".join([chunk.text async for chunk in stream])
            assert stream.answer().text == text
            return text

    assert asyncio.run(main()) == expected.text


def test_an_error_event_of_a_dying_server_is_a_break(pair: Pair) -> None:
    with Client(pair.urls, model="tiny", stream_timeout=20) as client:
        expected = ask(client, {})
        pair.servers[0].use(fake_engine(IDS, error_after=9))
        assert ask(client, {}) == expected
        assert pair.servers[1].state.engine.requests[-1].answer_token_ids == IDS[:8]
        with pytest.raises(ServerError, match="on purpose"):
            ask(client, {}, resume=False)


def test_where_nobody_is_left_the_last_error_comes_out(pair: Pair) -> None:
    for server in pair.servers:
        server.use(fake_engine(IDS, error_after=9))
    with (
        Client(pair.urls, model="tiny", stream_timeout=20, max_retries=0) as client,
        pytest.raises(ServerError, match="on purpose"),
    ):
        ask(client, {})


def test_a_server_that_is_not_there_is_passed_over(pair: Pair) -> None:
    with Client(
        ["http://127.0.0.1:9", pair.urls[0]], model="tiny", stream_timeout=20, max_retries=0
    ) as client:
        assert ask(client, {}).ends == ["stop"]


def test_another_model_does_not_go_on(pair: Pair) -> None:
    pair.servers[0].use(fake_engine(IDS, error_after=9))
    pair.servers[1].use(fake_engine(IDS), fingerprint="te-other")
    with (
        Client(pair.urls, model="tiny", stream_timeout=20) as client,
        pytest.raises(NotResumed, match="'te-other'"),
    ):
        ask(client, {})


def test_other_tokens_do_not_pass_for_the_same_answer(pair: Pair) -> None:
    pair.servers[0].use(fake_engine(IDS, error_after=9))
    pair.servers[1].use(fake_engine([*b"x" * 30, EOS]))
    with (
        Client(pair.urls, model="tiny", stream_timeout=20) as client,
        pytest.raises(NotResumed, match="draws other tokens"),
    ):
        ask(client, {})


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"temperature": 1}, "'seed'"),
        ({}, "'seed'"),
        ({"temperature": 0, "n": 2}, "'n'"),
        ({"temperature": 0, "receipt": True}, "'receipt'"),
        ({"temperature": 0, "prompt_logprobs": 0}, "'prompt_logprobs'"),
        ({"temperature": 0, "echo": True}, "'echo'"),
        ({"temperature": 0, "prompt": ["a", "b"]}, "'prompt'"),
    ],
)
def test_what_cannot_be_resumed_is_refused_by_name(params: dict[str, Any], name: str) -> None:
    """Before anything is sent."""
    prompt = params.pop("prompt", "Hi")
    with (
        Client("http://127.0.0.1:9", model="tiny", stream_timeout=20) as client,
        pytest.raises(ValueError, match=name),
    ):
        client.stream(prompt, resume=True, **params)


def test_a_stream_that_broke_inside_a_tool_call_is_not_resumed() -> None:
    role, *_ = chat_events("x")
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{"}}
    delta = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    with Stub() as stub, Client([stub.url, stub.url], model="tiny", stream_timeout=20) as client:
        stub.stream(role, event(delta | {"id": "chatcmpl-1"}))
        with pytest.raises(NotResumed, match="tool calls"):
            read(client.stream_chat("Hi", resume=True, **GREEDY))
        assert len(stub.requests) == 1
