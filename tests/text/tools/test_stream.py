"""Tool calls in a stream of tokens: events, stop strings and token lists beside them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.tool_calls import Whole, parse_whole
from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.interface.types import FinishReason, StepOutput
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.text_stream import TextOptions, TextStream
from thirdeye.server.text.tools.form import CLOSE, OPEN, write_call

EOS = 257
CALL = write_call("f", '{"a": "é ab"}')
TEXT = [CALL, "\n", "ab", "a", "🎉", OPEN, CLOSE, "<tool", "{", '"', write_call("g", "{}")]
EXTRA = [b"<tool", b"_call>", b'{"name": "', b'", "arguments": ', b'"}}\n</tool_call>']


def tokens_of(text: str, tokenizer: ByteTokenizer, longest_first: bool) -> list[int]:
    """Some way of writing `text` in tokens: by bytes, or with the long ones where they fit."""
    ids, raw = [], text.encode()
    while raw:
        fits = [i for i, extra in enumerate(EXTRA) if longest_first and raw.startswith(extra)]
        piece = EXTRA[fits[0]] if fits else raw[:1]
        ids.append(tokenizer.first_extra_id + fits[0] if fits else raw[0])
        raw = raw[len(piece) :]
    return ids


def run(ids: list[int], places: list[int], options: TextOptions) -> list[TextEvent]:
    """The events of an answer that ends by itself, in steps cut at `places`."""
    stream = TextStream(ByteTokenizer(extra=EXTRA), options, frozenset({EOS}))
    cuts = [0, *sorted({place % (len(ids) + 1) for place in places}), len(ids)]
    events = []
    for start, end in pairwise(cuts):
        is_last = end == len(ids)
        reason = FinishReason.STOP if is_last else None
        step = ids[start:end] + ([EOS] if is_last else [])
        if event := stream.feed(StepOutput(request_id="", token_ids=step, finish_reason=reason)):
            events.append(event)
        if stream.is_finished:
            break
    return events


def whole_of(events: list[TextEvent]) -> Whole:
    calls: list[tuple[str, str]] = []
    for delta in (delta for event in events for delta in event.tool_calls):
        if delta.name is not None:
            calls.append((delta.name, ""))
        name, arguments = calls[delta.index]
        calls[delta.index] = (name, arguments + delta.arguments)
    return Whole("".join(event.text for event in events), calls)


@given(
    pieces=st.lists(st.sampled_from(TEXT), max_size=6),
    places=st.lists(st.integers(0, 300), max_size=8),
    longest_first=st.booleans(),
    has_stop=st.booleans(),
)
def test_any_steps_give_the_same_calls(
    pieces: list[str], places: list[int], longest_first: bool, has_stop: bool
) -> None:
    """Content and calls are the twin's, whatever tokens and steps; each token is listed once."""
    text = "".join(pieces)
    ids = tokens_of(text, ByteTokenizer(extra=EXTRA), longest_first)
    stop = ["ab<never>"] if has_stop else []
    events = run(ids, places, TextOptions(stop=stop, parse_tool_calls=True))
    whole = parse_whole(text)
    assert whole_of(events) == whole
    assert [token.token_id for event in events for token in event.tokens] == [*ids, EOS]
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].ended_in_tool_calls is bool(whole.calls)


def test_tokens_stand_with_what_they_release() -> None:
    """A head is held until it is sure: its tokens come with the delta that begins the call."""
    events = run(
        list(CALL.encode()), list(range(len(CALL.encode()))), TextOptions(parse_tool_calls=True)
    )
    first = events[0]
    head = CALL[: CALL.index('{"a"') + 1]
    assert bytes(token.token_id for token in first.tokens).decode() == head
    assert [(d.name, d.arguments) for d in first.tool_calls] == [("f", ""), (None, "{")]


@pytest.mark.parametrize("include_stop", [True, False])
def test_a_stop_ends_content_and_no_call(include_stop: bool) -> None:
    """What a call's arguments say is not content; behind the calls it is again."""
    options = TextOptions(stop=["ab"], include_stop=include_stop, parse_tool_calls=True)
    shown = "ab" if include_stop else ""
    for before, after in [("", f"xab{CALL}"), ("a", " b")]:
        text = before + CALL + after
        whole = whole_of(events := run(list(text.encode()), list(range(len(text))), options))
        assert whole.calls == [("f", '{"a": "é ab"}')]
        assert whole.content == (f"x{shown}" if "ab" in after else before + after)
        assert events[-1].stop_reason == ("ab" if "ab" in after else None)
        assert events[-1].ended_in_tool_calls is ("ab" not in after)


def test_without_parsing_tags_are_text() -> None:
    events = run(list(CALL.encode()), [5, 20], TextOptions())
    assert whole_of(events) == Whole(CALL, [])
    assert not events[-1].ended_in_tool_calls


@pytest.mark.parametrize("parses", [True, False])
def test_tags_that_are_tokens_are_seen(parses: bool) -> None:
    """Where a tag is a special token it would be hidden, and with it every call."""
    tokenizer = ByteTokenizer([OPEN, CLOSE, "<|end|>"], bos=None, eos=["<|end|>"])
    stream = TextStream(tokenizer, TextOptions(parse_tool_calls=parses), frozenset({258}))
    body = CALL.removeprefix(OPEN).removesuffix(CLOSE).encode()
    event = stream.feed(
        StepOutput(request_id="", token_ids=[256, *body, 257, 258], finish_reason=FinishReason.STOP)
    )
    assert event is not None
    assert whole_of([event]) == (parse_whole(CALL) if parses else Whole(CALL, []))


def test_a_call_that_is_cut_is_no_call_that_ended() -> None:
    stream = TextStream(ByteTokenizer(), TextOptions(parse_tool_calls=True), frozenset({EOS}))
    ids = list(CALL.encode())[:-20]
    event = stream.feed(StepOutput(request_id="", token_ids=ids, finish_reason=FinishReason.LENGTH))
    assert event is not None
    assert event.tool_calls
    assert not event.ended_in_tool_calls
