"""A resumed stream whose servers lie: the client ends in words, after so many bytes and so many
connections, and nothing that came from one of them steers a terminal."""

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.stub import DONE, Stub, event, reply_parts, stream_parts
from thirdeye.clients import AsyncClient, Client, NotResumed, StreamBroken, ThirdeyeError
from thirdeye.clients.resume import MAX_BREAKS, Rounds
from thirdeye.clients.stream import StreamReader
from thirdeye.clients.terminal.complete import run_complete
from thirdeye.clients.types import ChatAnswer

GREEDY: dict[str, Any] = {"temperature": 0}


def told(text: Any, token_ids: Any = None, end: Any = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": end, "token_ids": token_ids}
    return event({"id": "chatcmpl-1", "choices": [choice], **more})


def raw(choices: Any, **more: Any) -> bytes:
    return event({"id": "chatcmpl-1", "choices": choices, **more})


ONCE = [told("Once", [5]), told(" upon", [9])]  # and it breaks off


@pytest.fixture
def pair() -> Iterator[tuple[Stub, Stub]]:
    with Stub() as first, Stub() as second:
        yield first, second


def ask(*stubs: Stub, **options: Any) -> str:
    urls = [stub.url for stub in stubs]
    with (
        Client(urls, model="tiny", stream_timeout=20, max_retries=0, **options) as client,
        client.stream_chat("Hi", resume=True, **GREEDY) as stream,
    ):
        return "".join(chunk.text for chunk in stream)


ILL_SHAPED = {
    "choices that are a number": raw(5),
    "choices that are a text": raw("abc"),
    "a choice that is a number": raw([7]),
    "a second choice": raw([{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "x"}}]),
    "another choice": raw([{"index": 3, "delta": {"content": "x"}}]),
    "ids that are a number": told("x", 5),
    "an id that is a text": told("x", ["\x1b[2J"]),
    "an id that is an object": told("x", [{"a": 1}]),
    "an id below zero": told("x", [-1]),
    "an id above any": told("x", [1 << 40]),
    "a true id": told("x", [True]),
    "a fingerprint that is an object": told("x", [1], system_fingerprint={"a": []}),
    "logprobs that are a number": raw(
        [{"index": 0, "delta": {"content": "x"}, "token_ids": [9], "logprobs": {"content": 5}}]
    ),
}


@pytest.mark.parametrize("sent", ILL_SHAPED.values(), ids=ILL_SHAPED)
@pytest.mark.parametrize("place", ["first", "second"])
def test_ill_shaped_events_end_in_words(pair: tuple[Stub, Stub], sent: bytes, place: str) -> None:
    """Nothing of it is sent on to the other server."""
    first, second = pair
    first.stream(*([sent] if place == "first" else ONCE), whole=False)
    if place == "second":
        second.stream(sent, whole=False)
    else:
        second.reply({"error": {"message": "no"}}, 400)
    with pytest.raises(ThirdeyeError) as found:
        ask(first, second)
    assert str(found.value).isprintable()
    sent_on = [request.json.get("answer_token_ids", []) for request in second.requests]
    assert sent_on in ([[]], [[5]])


def test_a_replica_that_ends_at_once_is_no_whole_answer(pair: tuple[Stub, Stub]) -> None:
    first, second = pair
    first.stream(*ONCE, whole=False)
    second.stream(DONE)
    with pytest.raises(NotResumed, match="may be cut"):
        ask(first, second)


def test_nor_is_one_that_tells_less_than_there_was(pair: tuple[Stub, Stub]) -> None:
    first, second = pair
    first.stream(*ONCE, whole=False)
    second.stream(told("On", [9], "stop"), DONE)
    with pytest.raises(NotResumed, match="may be cut"):
        ask(first, second)


def test_the_async_client_says_so_too(pair: tuple[Stub, Stub]) -> None:
    first, second = pair
    first.stream(*ONCE, whole=False)
    second.stream(DONE)

    async def main() -> None:
        urls = [first.url, second.url]
        async with (
            AsyncClient(urls, model="tiny", stream_timeout=20, max_retries=0) as client,
            client.stream_chat("Hi", resume=True, **GREEDY) as stream,
        ):
            [chunk async for chunk in stream]

    with pytest.raises(NotResumed, match="may be cut"):
        asyncio.run(main())


def test_a_replica_that_tells_another_text_is_not_spliced(pair: tuple[Stub, Stub]) -> None:
    """Its tokens agree, and its text would begin in the middle of a word of another answer."""
    first, second = pair
    first.stream(*ONCE, whole=False)
    second.stream(told("Never upon a time", [9, 4], "stop"), DONE)
    with pytest.raises(NotResumed, match="another text"):
        ask(first, second)


def test_the_same_text_goes_on(pair: tuple[Stub, Stub]) -> None:
    first, second = pair
    first.stream(*ONCE, whole=False)
    second.stream(told("Once up"), told("on", [9]), told(" a time", [4], "stop"), DONE)
    assert ask(first, second) == "Once upon a time"


@pytest.mark.parametrize("long", ["\x1b[2J" * 100_000, "\u202eevil" * 100_000])
def test_a_fingerprint_is_shown_in_short(pair: tuple[Stub, Stub], long: str) -> None:
    first, second = pair
    first.stream(told("Once", [5], system_fingerprint="te-1"), whole=False)
    second.stream(told("Once", [5], system_fingerprint=long), DONE)
    with pytest.raises(NotResumed, match="'te-1'") as found:
        ask(first, second)
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 1000


def test_a_redirect_is_named_and_not_followed(pair: tuple[Stub, Stub]) -> None:
    first, second = pair
    first.stream(*ONCE, whole=False)
    with Stub() as elsewhere:
        location = [("location", elsewhere.url + "/chat/completions")]
        second.raw(*reply_parts(b"", 307, location))
        with pytest.raises(ThirdeyeError, match="redirects to"):
            ask(first, second)
        assert not elsewhere.requests


def test_a_token_and_a_break_without_end_are_not_followed_for_ever() -> None:
    rounds = Rounds(2, lambda error, attempt: 0.0)
    broken = StreamBroken("cut")
    for _ in range(MAX_BREAKS):
        assert rounds.after(broken, has_grown=True) == 0.0
    with pytest.raises(StreamBroken, match="cut"):
        rounds.after(broken, has_grown=True)


def test_events_that_say_nothing_and_pings_have_an_end() -> None:
    for piece in (event({}), b": ping\n\n"):
        reader = StreamReader(ChatAnswer, max_bytes=5_000)
        with pytest.raises(StreamBroken, match="longer than any answer"):
            [chunk for _ in range(1000) for chunk in reader.feed(piece)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_not_steered(pair: tuple[Stub, Stub]) -> None:
    """By text, by an error of either server, or by where one of them redirects to."""
    evil = "\x1b]0;title\x07\x1b[31m\u202e"
    first, second = pair
    first.stream(told(f"Once{evil}", [5]), whole=False)
    second.raw(*stream_parts(event({"error": {"message": f"no{evil}", "code": evil}})))
    out, err = Terminal(), Terminal()
    urls = [first.url, second.url]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: None)
        status = run_complete(
            "Hi", urls, model="tiny", params=GREEDY, stdout=out, stderr=err, is_resumed=True
        )
    assert status == 1
    for text in (out.getvalue(), err.getvalue()):
        assert not set(evil) & set("\x1b\x07\u202e") & set(text), json.dumps(text)
