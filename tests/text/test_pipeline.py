"""Token ids to events: joined stream = whole text, every token listed once, the engine always closed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
    Timings,
    TokenLogprobs,
)
from server.text.events import TextEvent, TextToken
from server.text.pipeline import TextOptions, TextResult, TextStream, collect, stream_text
from tests.text.byte_tokenizer import ByteTokenizer

T = TypeVar("T")

EXTRA = [b"ab", b"a", "é🎉".encode(), "🎉".encode()[2:] + b"b", b"", b"\xff\xe2", b"abab", b"\n"]
TOKENIZER = ByteTokenizer(extra=EXTRA)
IM_START, EOS, ENDOFTEXT = 256, 257, 258
UNUSED = TOKENIZER.vocab_size - 1
IDS = [*range(TOKENIZER.first_extra_id, UNUSED + 1), *"ab🎉".encode(), IM_START, ENDOFTEXT]


def output(*ids: int, finish: FinishReason | None = None, **fields: Any) -> StepOutput:
    return StepOutput(request_id="r", token_ids=list(ids), finish_reason=finish, **fields)


def feed_all(stream: TextStream, outputs: list[StepOutput]) -> list[TextEvent]:
    events = []
    for step in outputs:
        event = stream.feed(step)
        events += [] if event is None else [event]
        if stream.is_finished:
            break
    return events


def run(
    outputs: list[StepOutput], options: TextOptions, hidden: frozenset[int] = frozenset({EOS})
) -> list[TextEvent]:
    return feed_all(TextStream(TOKENIZER, options, hidden), outputs)


def text_of(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events)


def ids_of(events: list[TextEvent]) -> list[int]:
    return [token.token_id for event in events for token in event.tokens]


# --- the oracle: decode everything, then look for stops at the end of each prefix ---------------


def oracle(ids: list[int], options: TextOptions) -> tuple[str, list[int], str | None]:
    """Text, tokens and matched stop of an answer, from its tokens seen at once."""
    hidden = {EOS, IM_START, ENDOFTEXT} if options.skip_special_tokens else {EOS}
    raws = [b"" if i in hidden else TOKENIZER.token_bytes(i) for i in ids]
    text = b"".join(raws).decode("utf-8", "replace")
    for n in range(options.min_tokens + 1, len(ids) + 1):
        decoded = len(text) if n == len(ids) else num_whole_characters(b"".join(raws[:n]))
        done = num_whole_characters(b"".join(raws[: n - 1]))
        if n == options.min_tokens + 1 == len(ids) or n <= len(ids):
            for end in range(done + 1, decoded + 1):
                for stop in sorted(options.stop, key=len, reverse=True):
                    if text[:end].endswith(stop):
                        kept = end if options.include_stop else end - len(stop)
                        return text[:kept], ids[:n], stop
    return text, ids, None


def num_whole_characters(raw: bytes) -> int:
    """Characters that no further byte can change."""
    text = raw.decode("utf-8", "replace")
    for continuation in (b"\x80", b"\x8f", b"\x9f", b"\xbf", b"\x90"):
        while text != (raw + continuation).decode("utf-8", "replace")[: len(text)]:
            text = text[:-1]
    return len(text)


options_of = st.builds(
    TextOptions,
    stop=st.lists(st.sampled_from(["ab", "b", "aba", "bab", "é🎉", "\ufffd", "🎉a", "|im"]), max_size=3),
    include_stop=st.booleans(),
    skip_special_tokens=st.booleans(),
    min_tokens=st.integers(0, 4),
)
answers = st.lists(st.sampled_from(IDS), max_size=12)


def split_into_outputs(ids: list[int], places: list[int]) -> list[StepOutput]:
    ends = [0, *sorted(min(p, len(ids)) for p in places), len(ids)]
    pieces = [ids[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    outputs = [output(*piece) for piece in pieces]
    return [*outputs[:-1], output(*pieces[-1], finish=FinishReason.LENGTH)]


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12))
def test_any_split_of_the_tokens_gives_the_text_of_the_whole(
    ids: list[int], options: TextOptions, places: list[int]
) -> None:
    events = run(split_into_outputs(ids, places), options)
    text, tokens, matched = oracle(ids, options)
    assert text_of(events) == text
    assert ids_of(events) == tokens
    assert events[-1].stop_reason == matched
    assert events[-1].finish_reason is (FinishReason.STOP if matched else FinishReason.LENGTH)
    assert events[-1].num_generated_tokens == len(tokens)
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)


@given(answers, options_of)
def test_a_token_comes_with_the_event_that_sends_the_last_of_its_text(
    ids: list[int], options: TextOptions
) -> None:
    """Not earlier, and not later."""
    events = run(split_into_outputs(ids, list(range(12))), options)
    sent = listed = 0
    raw = b""
    for event in events[:-1]:
        sent += len(event.text)
        for token in event.tokens:
            raw += token.raw or b""
            listed += 1
            assert len(raw.decode("utf-8", "replace")) <= sent, "listed before its text was sent"
        after = raw + b"".join(t.raw or b"" for t in tokens_from(ids, listed, options)[:1])
        if listed < len(ids):
            later = len(after.decode("utf-8", "replace")) > sent
            assert later or num_whole_characters(after) < sent or event is last_of(events, listed)


def tokens_from(ids: list[int], start: int, options: TextOptions) -> list[TextToken]:
    hidden = {EOS, IM_START, ENDOFTEXT} if options.skip_special_tokens else {EOS}
    return [
        TextToken(i, None if i in hidden else TOKENIZER.token_bytes(i)) for i in ids[start:]
    ]


def last_of(events: list[TextEvent], listed: int) -> TextEvent | None:
    """The event after which the next token had not been sampled yet."""
    for event in events:
        if event.num_generated_tokens == listed:
            return event
    return None
