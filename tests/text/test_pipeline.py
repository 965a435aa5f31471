"""Token ids to events: joined stream = whole text, each token listed once, the engine closed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.fake import FakeEngine
from server.engine.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
    Take,
    Timings,
    TokenLogprobs,
)
from server.text.events import TextEvent, TextToken
from server.text.pipeline import TextOptions, TextResult, TextStream, collect, stream_text
from server.text.shortcut import Shortcut
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


# --- the oracle: decode everything, then look for a stop at the end of each token ---------------


def oracle(ids: list[int], options: TextOptions) -> tuple[str, list[int], str | None]:
    """Text, tokens and matched stop of an answer, from its tokens seen at once."""
    raws = visible(ids, options)
    text = decode(b"".join(raws))
    for n in range(options.min_tokens + 1, len(ids) + 1):
        before = num_final_chars(b"".join(raws[: n - 1]))
        now = len(text) if n == len(ids) else num_final_chars(b"".join(raws[:n]))
        for end in range(before + 1, now + 1):
            for stop in sorted(options.stop, key=len, reverse=True):
                if text[:end].endswith(stop):
                    return text[: end if options.include_stop else end - len(stop)], ids[:n], stop
    return text, ids, None


def visible(ids: list[int], options: TextOptions) -> list[bytes]:
    hidden = {EOS, IM_START, ENDOFTEXT} if options.skip_special_tokens else {EOS}
    return [b"" if i in hidden else TOKENIZER.token_bytes(i) for i in ids]


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def num_final_chars(raw: bytes) -> int:
    """Characters that are the same whatever bytes follow: the ones that may be sent."""
    ends = [b"A", *(bytes([b, 0x80, 0x80]) for b in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF))]
    texts = [decode(raw + end) for end in ends]
    return next(i for i, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1)


options_of = st.builds(
    TextOptions,
    stop=st.lists(
        st.sampled_from(["ab", "b", "aba", "bab", "é🎉", "\ufffd", "🎉a", "|im"]), max_size=3
    ),
    include_stop=st.booleans(),
    skip_special_tokens=st.booleans(),
    min_tokens=st.integers(0, 4),
)
answers = st.lists(st.sampled_from(IDS), max_size=12)


def split_into_outputs(ids: list[int], places: list[int]) -> list[StepOutput]:
    ends = [0, *sorted(min(p, len(ids)) for p in places), len(ids)]
    pieces = [ids[a:b] for a, b in pairwise(ends)]
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


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12))
def test_a_token_comes_with_the_event_that_sends_the_last_of_its_text(
    ids: list[int], options: TextOptions, places: list[int]
) -> None:
    """Not earlier, and not later."""
    events = run(split_into_outputs(ids, places), options)
    raws = visible(ids, options)
    needs = [len(decode(b"".join(raws[: n + 1]))) for n in range(len(ids))]
    sent = listed = 0
    for event in events[:-1]:
        sent += len(event.text)
        listed += len(event.tokens)
        assert listed == sum(need <= sent for need in needs[: event.num_generated_tokens])
        assert event.text or event.tokens, "an event says something"


# --- single promises -----------------------------------------------------------------------------


def test_tokens_of_a_character_spread_over_four_tokens_come_with_it() -> None:
    stream = TextStream(TOKENIZER, TextOptions())
    raw = "🎉".encode()
    assert [stream.feed(output(b)) for b in raw[:3]] == [None] * 3
    event = stream.feed(output(raw[3]))
    assert event is not None
    assert (event.text, ids_of([event])) == ("🎉", list(raw))


@pytest.mark.parametrize(
    ("stop", "text", "matched"),
    [("\ufffd", "a", "\ufffd"), ("a\ufffd", "", "a\ufffd"), ("ab", "a\ufffd", None)],
)
def test_a_character_cut_short_by_the_end_is_searched_too(
    stop: str, text: str, matched: str | None
) -> None:
    raw = "a🎉".encode()[:-1]
    events = run([output(*raw, finish=FinishReason.LENGTH)], TextOptions(stop=[stop]))
    assert (text_of(events), events[-1].stop_reason) == (text, matched)
    assert bytes(ids_of(events)) == raw


def test_tokens_held_back_for_a_stop_come_when_it_is_none() -> None:
    stream = TextStream(TOKENIZER, TextOptions(stop=["abc"]))
    assert stream.feed(output(*b"a")) is None
    assert stream.feed(output(*b"b")) is None
    event = stream.feed(output(*b"x"))
    assert event is not None
    assert (event.text, ids_of([event])) == ("abx", [*b"abx"])


def test_the_stop_never_leaks_and_tokens_behind_it_are_dropped() -> None:
    events = run([output(*b"hi ST"), output(*b"OP and more")], TextOptions(stop=["STOP"]))
    assert text_of(events) == "hi "
    assert bytes(ids_of(events)) == b"hi STOP"
    assert events[-1].num_generated_tokens == 7
    assert (events[-1].finish_reason, events[-1].stop_reason) == (FinishReason.STOP, "STOP")


def test_end_of_sequence_is_listed_but_is_no_text() -> None:
    (event,) = run([output(*b"hi", EOS, finish=FinishReason.STOP)], TextOptions(stop=["x"]))
    assert event.text == "hi"
    assert event.tokens[-1] == TextToken(EOS, None)
    assert event.stop_reason is None
    assert event.num_generated_tokens == 3


def test_a_stop_token_id_is_hidden_and_named() -> None:
    last = output(*b"a\n", finish=FinishReason.STOP, stop_token_id=10)
    (event,) = run([last], TextOptions(), hidden=frozenset({10}))
    assert (event.text, event.stop_reason) == ("a", 10)
    assert event.tokens == [TextToken(97, b"a"), TextToken(10, None)]


@pytest.mark.parametrize(
    ("skip", "text", "raw"), [(True, "ab", None), (False, "a<|im_start|>b", b"<|im_start|>")]
)
def test_special_tokens_are_hidden_or_shown(skip: bool, text: str, raw: bytes | None) -> None:
    ids = [97, IM_START, 98]
    options = TextOptions(skip_special_tokens=skip)
    events = run([output(*ids, finish=FinishReason.LENGTH)], options)
    assert text_of(events) == text
    assert events[0].tokens[1] == TextToken(IM_START, raw)


def test_prompt_logprobs_come_once_on_the_first_event_even_if_text_is_held_back() -> None:
    scores = [TokenLogprobs(97, -0.5, 1, [])]
    first = output(*b"a", prompt_logprobs=scores, num_cached_tokens=3)
    events = run(
        [first, output(*b"x"), output(*b"y", finish=FinishReason.LENGTH)], TextOptions(stop=["ab"])
    )
    assert [event.prompt_logprobs for event in events] == [scores, None]


def test_a_request_that_only_scores_its_prompt_has_one_event() -> None:
    (event,) = run([output(finish=FinishReason.LENGTH, prompt_logprobs=[])], TextOptions())
    assert event == TextEvent(text="", prompt_logprobs=[], finish_reason=FinishReason.LENGTH)


def test_logprobs_timings_and_cached_tokens_pass_through() -> None:
    scores = [TokenLogprobs(97, -0.5, 1, [(97, -0.5)]), TokenLogprobs(EOS, -1.0, 2, [])]
    timings = Timings(1.0, 2.0, 3.0, 6.0, 4)
    last = output(
        97, EOS, finish=FinishReason.STOP, logprobs=scores, timings=timings, num_cached_tokens=16
    )
    (event,) = run([last], TextOptions())
    assert [token.logprobs for token in event.tokens] == scores
    assert (event.timings, event.num_cached_tokens) == (timings, 16)


def test_an_engine_error_is_the_last_event() -> None:
    events = run(
        [output(*b"a"), output(finish=FinishReason.ERROR, error="out of memory")],
        TextOptions(stop=["ab"]),
    )
    (event,) = events
    assert (event.finish_reason, event.error, event.text) == (
        FinishReason.ERROR,
        "out of memory",
        "a",
    )


def test_nothing_can_be_fed_after_the_end() -> None:
    stream = TextStream(TOKENIZER, TextOptions())
    stream.feed(output(finish=FinishReason.ABORT))
    with pytest.raises(AssertionError):
        stream.feed(output(97))


# --- with an engine ------------------------------------------------------------------------------


TIMINGS = Timings(1.0, 2.0, 3.0, 6.0, 4)


@dataclass
class ScriptedEngine:
    """Plays outputs to one request, and counts how its iterator is treated."""

    outputs: list[StepOutput]
    started: int = 0
    closed: int = 0
    deaf: bool = False  # an abort is not answered
    served: int = 0
    hangs: bool = False  # instead of the last output
    dead: bool = False
    log: list[str] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self, request_id: str) -> None:
        self.log.append(f"abort {request_id} after {self.served}")
        if not self.deaf:
            self.aborted.set()

    async def generate(
        self,
        request: Request,
        take: Take | None = None,
    ) -> AsyncGenerator[StepOutput, None]:
        if self.dead:
            raise EngineDead("no engine")
        self.started += 1
        try:
            for step in self.outputs:
                await asyncio.sleep(0)
                self.served += 1
                if take is None or step.finish_reason is not None or not take(step):
                    yield step
            if self.hangs:
                await self.aborted.wait()
                yield output(finish=FinishReason.ABORT, timings=TIMINGS)
        finally:
            await asyncio.sleep(0)  # an abort may have to wait
            self.closed += 1


def events_of(
    engine: ScriptedEngine,
    options: TextOptions | None = None,
    shortcut: Shortcut | None = None,
    **sampling: Any,
) -> AsyncGenerator[TextEvent, None]:
    request = Request(
        request_id="r", prompt_token_ids=[1], sampling=SamplingParams(max_tokens=99, **sampling)
    )
    double: Any = engine
    typed: Engine = double
    return stream_text(typed, request, TOKENIZER, options or TextOptions(), shortcut=shortcut)


def wait_for(work: Awaitable[T]) -> T:
    """Run to the end; no task may be left behind."""

    async def main() -> T:
        result = await asyncio.wait_for(work, 5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(main())


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12))
def test_joined_stream_equals_the_non_streamed_answer(
    ids: list[int], options: TextOptions, places: list[int]
) -> None:
    engine = ScriptedEngine(split_into_outputs(ids, places))
    result = wait_for(collect(events_of(engine, options)))
    text, tokens, matched = oracle(ids, options)
    assert isinstance(result, TextResult)
    assert (result.text, result.stop_reason) == (text, matched)
    assert [token.token_id for token in result.tokens] == tokens
    assert (engine.started, engine.closed) == (1, 1)


def test_a_stop_string_ends_the_request_before_the_last_event() -> None:
    """A slow reader must not keep the blocks of a request that is over, and its timings come."""
    engine = ScriptedEngine([output(*b"a"), output(*b"STOP"), output(*b"more")], hangs=True)

    async def main() -> None:
        async for event in events_of(engine, TextOptions(stop=["STOP"])):
            if event.finish_reason is not None:
                engine.log.append(f"closed {engine.closed}")
                assert (event.text, event.timings) == ("", TIMINGS)
                assert event.num_generated_tokens == 5

    wait_for(main())
    assert engine.log == ["abort r after 2", "closed 1"]


def test_a_stop_string_does_not_wait_for_an_engine_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.text.pipeline.LAST_WORD_SECONDS", 0.01)
    engine = ScriptedEngine([output(*b"STOP")], hangs=True, deaf=True)
    result = wait_for(collect(events_of(engine, TextOptions(stop=["STOP"]))))
    assert (result.stop_reason, result.timings) == ("STOP", None)
    assert engine.closed == 1


def test_a_stop_in_the_engines_last_output_asks_for_nothing_more() -> None:
    engine = ScriptedEngine([output(*b"STOP", finish=FinishReason.LENGTH, timings=TIMINGS)])
    result = wait_for(collect(events_of(engine, TextOptions(stop=["STOP"]))))
    assert (result.finish_reason, result.timings, engine.log) == (FinishReason.STOP, TIMINGS, [])


def test_leaving_early_closes_the_engine() -> None:
    engine = ScriptedEngine([output(*b"a"), output(*b"b")], hangs=True)

    async def main() -> None:
        async with aclosing(events_of(engine)) as events:
            async for _ in events:
                break

    wait_for(main())
    assert (engine.started, engine.closed) == (1, 1)


def test_cancellation_closes_the_engine() -> None:
    engine = ScriptedEngine([output(*b"a")], hangs=True)

    async def main() -> None:
        task = asyncio.create_task(collect(events_of(engine)))
        while not engine.served:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    wait_for(main())
    assert (engine.started, engine.closed) == (1, 1)


def test_a_stream_that_never_starts_leaks_nothing() -> None:
    engine = ScriptedEngine([output(*b"a")], hangs=True)
    wait_for(events_of(engine).aclose())
    assert (engine.started, engine.closed) == (0, 0)


def test_a_dead_engine_is_the_callers_to_see() -> None:
    with pytest.raises(EngineDead):
        wait_for(collect(events_of(ScriptedEngine([], dead=True))))


def test_an_engine_without_a_last_output_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="finish_reason"):
        wait_for(collect(events_of(ScriptedEngine([output(*b"a")]))))


def test_end_of_sequence_that_is_ignored_shows_as_any_special_token() -> None:
    ids = [97, EOS, 98]
    for skip, ignore, text in [
        (True, True, "ab"),
        (False, True, "a<|im_end|>b"),
        (False, False, "ab"),
    ]:
        engine = ScriptedEngine([output(*ids, finish=FinishReason.LENGTH)])
        events = events_of(engine, TextOptions(skip_special_tokens=skip), ignore_eos=ignore)
        assert wait_for(collect(events)).text == text


def test_stop_token_ids_of_the_request_are_hidden() -> None:
    engine = ScriptedEngine([output(97, 98, finish=FinishReason.STOP, stop_token_id=98)])
    result = wait_for(collect(events_of(engine, stop_token_ids=[98])))
    assert (result.text, result.stop_reason) == ("a", 98)


@pytest.mark.parametrize(
    ("max_seconds", "num_tokens"), [(0.0, 6), (0.5, 2), (2.0, 3), (2.5, 4), (100.0, 6)]
)
def test_decoding_ends_when_its_time_is_over(max_seconds: float, num_tokens: int) -> None:
    """Counted from the first token, with a clock that ticks once a token; the engine is told."""

    async def main() -> None:
        engine = FakeEngine([*b"abcdef"])
        request = Request(
            request_id="r", prompt_token_ids=[1], sampling=SamplingParams(max_tokens=6)
        )
        options = TextOptions(max_seconds=max_seconds)
        clock = count().__next__
        stream = stream_text(engine, request, ByteTokenizer(), options, clock=clock)
        result = await collect(stream)
        assert result.text == "abcdef"[:num_tokens]
        assert result.finish_reason is FinishReason.LENGTH
        assert engine.aborted == ([] if num_tokens == 6 else ["r"])

    asyncio.run(main())


class Door:
    """A shortcut that is open as the test says, time after time."""

    def __init__(self, is_open: list[bool]) -> None:
        self._is_open = iter(is_open)
        self.events: list[TextEvent] = []

    @property
    def is_open(self) -> bool:
        return next(self._is_open, True)

    def send(self, event: TextEvent) -> None:
        self.events.append(event)


def shown(event: TextEvent) -> tuple[str, int, FinishReason | None]:
    return event.text, event.num_generated_tokens, event.finish_reason


@given(
    st.lists(st.lists(st.sampled_from(IDS), max_size=3), max_size=8),
    st.lists(st.booleans(), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_events_are_the_same_by_either_way(
    steps: list[list[int]], is_open: list[bool], lists_tokens: bool, skip_special: bool
) -> None:
    """Whatever the way and whether tokens are listed: the same events in the same order."""
    outputs = [*(output(*ids) for ids in steps), output(EOS, finish=FinishReason.STOP)]
    usual = run(outputs, TextOptions(skip_special_tokens=skip_special))
    door = Door(is_open)
    options = TextOptions(skip_special_tokens=skip_special, list_tokens=lists_tokens)

    async def read() -> None:
        async for event in events_of(ScriptedEngine(outputs), options, shortcut=door):
            door.events.append(event)  # in the order of both

    wait_for(read())
    if lists_tokens:
        assert door.events == usual
    else:
        assert [shown(e) for e in door.events if e.text or e.finish_reason] == [
            shown(e) for e in usual if e.text or e.finish_reason
        ]
        assert not any(event.tokens for event in door.events)


@pytest.mark.parametrize("options", [TextOptions(stop=["q"]), TextOptions(max_seconds=9.0)])
def test_an_answer_that_may_end_here_takes_no_shortcut(options: TextOptions) -> None:
    """A stop string and a time limit end it in the iterator, which has to see all of it."""
    door = Door([])
    script = [output(97), output(98), output(EOS, finish=FinishReason.STOP)]
    wait_for(collect(events_of(ScriptedEngine(script), options, shortcut=door)))
    assert not door.events
