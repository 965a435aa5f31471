"""The fake engine keeps the engine's promises that the layers above rely on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
)


def request(
    request_id: str = "r", prompt: Sequence[int] = (1, 2, 3), **sampling: object
) -> Request:
    params = SamplingParams(**({"max_tokens": 8} | sampling))  # type: ignore[arg-type]
    return Request(request_id=request_id, prompt_token_ids=list(prompt), sampling=params)


async def collect(engine: Engine, asked: Request) -> list[StepOutput]:
    return [output async for output in engine.generate(asked)]


def run(engine: Engine, asked: Request) -> list[StepOutput]:
    return asyncio.run(collect(engine, asked))


def tokens(outputs: list[StepOutput]) -> list[int]:
    return [token_id for output in outputs for token_id in output.token_ids]


@pytest.mark.parametrize("tokens_per_step", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("sampling", "expected", "reason", "stop_token_id"),
    [
        ({}, [5, 6, 7], FinishReason.STOP, None),
        ({"max_tokens": 2}, [5, 6], FinishReason.LENGTH, None),
        ({"max_tokens": 0}, [], FinishReason.LENGTH, None),
        ({"stop_token_ids": [6]}, [5, 6], FinishReason.STOP, 6),
        ({"stop_token_ids": [6], "min_tokens": 3}, [5, 6, 7], FinishReason.STOP, None),
        ({"ignore_eos": True, "max_tokens": 5}, [5, 6, 7, 8, 9], FinishReason.LENGTH, None),
        ({"ignore_eos": True}, [5, 6, 7, 8, 9], FinishReason.STOP, None),
    ],
)
def test_replays_to_the_right_end(
    tokens_per_step: int,
    sampling: dict[str, Any],
    expected: list[int],
    reason: FinishReason,
    stop_token_id: int | None,
) -> None:
    engine = FakeEngine([5, 6, 7, 8, 9], eos_token_ids=[7], tokens_per_step=tokens_per_step)
    outputs = run(engine, request(**sampling))
    assert tokens(outputs) == expected
    assert [o.finish_reason for o in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert (outputs[-1].finish_reason, outputs[-1].stop_token_id) == (reason, stop_token_id)
    assert outputs[-1].timings is not None


def test_logprobs_come_one_a_token_and_only_when_asked() -> None:
    asked = request(logprobs=2, prompt_logprobs=0)
    first, *rest = run(FakeEngine([5, 6]), asked)
    assert first.prompt_logprobs is not None
    assert [entry.token_id for entry in first.prompt_logprobs] == [2, 3]
    assert all(output.prompt_logprobs is None for output in rest)
    assert first.logprobs is not None
    assert first.logprobs[0].token_id == 5
    assert len(first.logprobs[0].top) == 2
    assert run(FakeEngine([5]), request())[0].logprobs is None


def test_knobs_break_it_on_purpose() -> None:
    outputs = run(FakeEngine([5] * 8, error_after=2, error="broken"), request())
    assert tokens(outputs) == [5, 5]
    assert (outputs[-1].finish_reason, outputs[-1].error) == (FinishReason.ERROR, "broken")

    async def hang() -> list[StepOutput]:
        engine = FakeEngine([5] * 8, hang_after=2)
        task = asyncio.ensure_future(collect(engine, request()))
        for _ in range(50):  # turns of the loop, of which an answer takes one a token
            await asyncio.sleep(0)
        assert not task.done()
        assert engine.stats().num_requests_running == 1
        engine.abort("r")
        assert engine.aborted == []
        outputs = await task
        assert engine.aborted == ["r"]
        assert engine.stats().num_requests_running == 0
        return outputs

    assert asyncio.run(hang())[-1].finish_reason is FinishReason.ABORT


def test_death_ends_streams_with_error_and_takes_no_more() -> None:
    async def main() -> None:
        engine = FakeEngine([5] * 100, delay=10.0)
        task = asyncio.ensure_future(collect(engine, request()))
        await asyncio.sleep(0)
        engine.die("gone")
        assert [o.finish_reason for o in await task] == [FinishReason.ERROR]
        assert not engine.is_alive
        with pytest.raises(EngineDead, match="gone"):
            await collect(engine, request())

    asyncio.run(main())
