"""An engine's outputs to events: the joined stream is the answer, and the engine is closed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
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
from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    OnOutput,
    Request,
    SamplingParams,
    StepOutput,
    Timings,
)
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.shortcut import Shortcut
from thirdeye.server.text.text_stream import TextOptions, TextResult, collect, stream_text

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
    monkeypatch.setattr("thirdeye.server.text.text_stream.LAST_WORD_SECONDS", 0.01)
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
