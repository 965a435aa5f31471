"""An engine's outputs to events: the joined stream is the answer, and the engine is closed."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.process.fake_engine import FakeEngine
from tests.text.answers import (
    EOS,
    IDS,
    TOKENIZER,
    answers,
    options_of,
    oracle,
    output,
    run,
    split_into_outputs,
)
from thirdeye.server.engine.interface.types import (
    EngineDead,
    FinishReason,
    OnOutput,
    Request,
    SamplingParams,
    StepOutput,
    Timings,
)
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.stream_text import stream_text
from thirdeye.server.text.text_stream import TextOptions

T = TypeVar("T")

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
    takes: bool = True  # False: outputs are never offered to `take`
    asks: list[bool] = field(default_factory=list)  # whether the first ones are
    log: list[str] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self, request_id: str) -> None:
        self.log.append(f"abort {request_id} after {self.served}")
        if not self.deaf:
            self.aborted.set()

    async def generate(
        self, request: Request, on_output: OnOutput | None = None
    ) -> AsyncGenerator[StepOutput, None]:
        if self.dead:
            raise EngineDead("no engine")
        self.started += 1
        try:
            for step in self.outputs:
                await asyncio.sleep(0)
                self.served += 1
                is_last = step.finish_reason is not None
                if on_output is None or is_last or not on_output(step):
                    yield step
            if self.hangs:
                await self.aborted.wait()
                yield output(finish=FinishReason.ABORT, timings=TIMINGS)
        finally:
            await asyncio.sleep(0)  # an abort may have to wait
            self.closed += 1


async def streamed(
    engine: Any,
    options: TextOptions | None = None,
    deliver: Callable[[TextEvent], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    **sampling: Any,
) -> list[TextEvent]:
    """All events, the last too. Each but that goes to `deliver` as well."""
    request = Request(
        request_id="r", prompt_token_ids=[1], sampling=SamplingParams(max_tokens=99, **sampling)
    )
    events: list[TextEvent] = []

    def take(event: TextEvent) -> None:
        events.append(event)
        if deliver is not None:
            deliver(event)

    last = await stream_text(engine, request, TOKENIZER, options or TextOptions(), take, clock)
    assert all(event.finish_reason is None for event in events)
    assert last.finish_reason is not None
    return [*events, last]


def text_of(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events)


def wait_for(work: Awaitable[T]) -> T:
    """Run to the end; no task may be left behind."""

    async def main() -> T:
        result = await asyncio.wait_for(work, 60)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(main())


@given(answers, options_of, st.lists(st.integers(0, 12), max_size=12), st.booleans())
def test_joined_events_are_the_answer(
    ids: list[int], options: TextOptions, places: list[int], takes: bool
) -> None:
    engine = ScriptedEngine(split_into_outputs(ids, places), takes=takes)
    events = wait_for(streamed(engine, options))
    text, tokens, matched = oracle(ids, options)
    assert (text_of(events), events[-1].stop_reason) == (text, matched)
    assert [token.token_id for event in events for token in event.tokens] == tokens
    assert (engine.started, engine.closed) == (1, 1)


@pytest.mark.parametrize("takes", [True, False])
def test_a_stop_string_ends_the_request_before_the_last_event(takes: bool) -> None:
    """A slow reader must not keep the blocks of a request that is over, and its timings come."""
    outputs = [output(*b"a"), output(*b"STOP"), output(*b"more")]
    engine = ScriptedEngine(outputs, takes=takes, hangs=True)
    *_, last = wait_for(streamed(engine, TextOptions(stop=["STOP"])))
    assert (last.text, last.timings, last.num_generated_tokens) == ("", TIMINGS, 5)
    assert engine.log == ["abort r after 2"]
    assert engine.closed == 1


def test_a_stop_string_does_not_wait_for_an_engine_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thirdeye.server.text.stream_text.LAST_WORD_SECONDS", 0.01)
    engine = ScriptedEngine([output(*b"STOP")], hangs=True, deaf=True)
    *_, last = wait_for(streamed(engine, TextOptions(stop=["STOP"])))
    assert (last.stop_reason, last.timings) == ("STOP", None)
    assert engine.closed == 1


def test_an_engine_may_be_silent_for_longer_where_nothing_has_matched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thirdeye.server.text.stream_text.LAST_WORD_SECONDS", 0.0)
    engine = ScriptedEngine([output(*b"a"), output(EOS, finish=FinishReason.STOP)])
    assert text_of(wait_for(streamed(engine, TextOptions(stop=["STOP"])))) == "a"


def test_a_stop_in_the_engines_last_output_asks_for_nothing_more() -> None:
    engine = ScriptedEngine([output(*b"STOP", finish=FinishReason.LENGTH, timings=TIMINGS)])
    *_, last = wait_for(streamed(engine, TextOptions(stop=["STOP"])))
    assert (last.finish_reason, last.timings, engine.log) == (FinishReason.STOP, TIMINGS, [])


@pytest.mark.parametrize("takes", [True, False])
def test_a_delivery_that_fails_closes_the_engine(takes: bool) -> None:
    engine = ScriptedEngine([output(*b"a"), output(*b"b")], takes=takes, hangs=True)

    def refuse(event: TextEvent) -> None:
        raise ZeroDivisionError(event.text)

    with pytest.raises(ZeroDivisionError, match="a"):
        wait_for(streamed(engine, deliver=refuse))
    assert (engine.started, engine.closed) == (1, 1)


def test_cancellation_closes_the_engine() -> None:
    engine = ScriptedEngine([output(*b"a")], hangs=True)

    async def main() -> None:
        task = asyncio.create_task(streamed(engine))
        while not engine.served:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    wait_for(main())
    assert (engine.started, engine.closed) == (1, 1)


def test_a_dead_engine_is_the_callers_to_see() -> None:
    with pytest.raises(EngineDead):
        wait_for(streamed(ScriptedEngine([], dead=True)))


def test_an_engine_without_a_last_output_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="finish_reason"):
        wait_for(streamed(ScriptedEngine([output(*b"a")])))


def test_end_of_sequence_that_is_ignored_shows_as_any_special_token() -> None:
    ids = [97, EOS, 98]
    for skip, ignore, text in [
        (True, True, "ab"),
        (False, True, "a<|im_end|>b"),
        (False, False, "ab"),
    ]:
        engine = ScriptedEngine([output(*ids, finish=FinishReason.LENGTH)])
        events = streamed(engine, TextOptions(skip_special_tokens=skip), ignore_eos=ignore)
        assert text_of(wait_for(events)) == text


def test_stop_token_ids_of_the_request_are_hidden() -> None:
    engine = ScriptedEngine([output(97, 98, finish=FinishReason.STOP, stop_token_id=98)])
    events = wait_for(streamed(engine, stop_token_ids=[98]))
    assert (text_of(events), events[-1].stop_reason) == ("a", 98)


@pytest.mark.parametrize(
    ("max_seconds", "num_tokens"), [(0.0, 99), (0.5, 2), (2.0, 3), (2.5, 4), (100.0, 99)]
)
def test_decoding_ends_when_its_time_is_over(max_seconds: float, num_tokens: int) -> None:
    """Counted from the first token, with a clock that ticks once a token; the engine is told."""

    engine = FakeEngine([*b"abcdef"] * 17)
    options = TextOptions(max_seconds=max_seconds)
    clock = count().__next__
    events = wait_for(streamed(engine, options, clock=clock))
    assert text_of(events) == ("abcdef" * 17)[:num_tokens]
    assert events[-1].finish_reason is FinishReason.LENGTH
    assert engine.aborted == ([] if num_tokens == 99 else ["r"])


def shown(event: TextEvent) -> tuple[str, int, FinishReason | None]:
    return event.text, event.num_generated_tokens, event.finish_reason


@given(
    st.lists(st.lists(st.sampled_from(IDS), max_size=3), max_size=8),
    st.lists(st.booleans(), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_events_are_the_same_by_either_way(
    steps: list[list[int]], asks: list[bool], lists_tokens: bool, skip_special: bool
) -> None:
    """Taken from the engine's step or read behind it, listed or not: the same, in order."""
    outputs = [*(output(*ids) for ids in steps), output(EOS, finish=FinishReason.STOP)]
    usual = run(outputs, TextOptions(skip_special_tokens=skip_special))
    options = TextOptions(skip_special_tokens=skip_special, list_tokens=lists_tokens)
    events = wait_for(streamed(ScriptedEngine(outputs, asks=asks), options))
    if lists_tokens:
        assert events == usual
    else:
        assert [shown(e) for e in events if e.text or e.finish_reason] == [
            shown(e) for e in usual if e.text or e.finish_reason
        ]
        assert not any(event.tokens for event in events)
