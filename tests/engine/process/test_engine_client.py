"""The table of open streams, without an engine behind it."""

import asyncio

import pytest

from tests.engine.process.recording_client import RecordingClient
from tests.engine.toy import collect, make_request, tokens_of
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.types import FinishReason, StepOutput
from thirdeye.server.engine.process.messages import Abort, Add, Step


def step(sequence: int, *outputs: StepOutput) -> Step:
    return Step(sequence, list(outputs), EngineStats(steps_total=sequence + 1))


def test_a_gap_in_the_steps_is_a_bug() -> None:
    client = RecordingClient()
    client.receive(step(0))
    client.receive(step(1))
    with pytest.raises(AssertionError, match="lost"):
        client.receive(step(3))


def test_outputs_that_pile_up_come_in_order_and_all() -> None:
    """A slow reader finds every step, up to its last output and not one more."""

    async def main() -> None:
        client = RecordingClient()
        reading = asyncio.create_task(collect(client, make_request()))
        await asyncio.sleep(0)
        for i in range(5):
            reason = FinishReason.LENGTH if i == 3 else None
            output = StepOutput(request_id="r", token_ids=[i], finish_reason=reason)
            client.receive(step(i, output, StepOutput(request_id="gone", token_ids=[9])))
        assert tokens_of(await reading) == [0, 1, 2, 3]
        assert client.sent == [Add(make_request())]
        assert client.stats().steps_total == 5

    asyncio.run(main())


def test_leaving_sends_abort_once_and_a_finished_request_sends_none() -> None:
    async def main() -> None:
        client = RecordingClient()
        stream = client.generate(make_request())
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        client.dispatch([StepOutput(request_id="r", token_ids=[1])])
        await first
        await stream.aclose()
        client.abort("r")
        assert client.sent == [Add(make_request()), Abort("r")]

    asyncio.run(main())


def test_an_id_that_runs_is_not_taken_twice() -> None:
    async def main() -> None:
        client = RecordingClient()
        reading = asyncio.create_task(collect(client, make_request()))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="unique"):
            await collect(client, make_request())
        client.fail_all("gone")
        client.abort_all()
        ends = [output.finish_reason for output in await reading]
        assert ends == [FinishReason.ERROR]

    asyncio.run(main())


def test_nothing_is_taken_while_an_output_waits_to_be_read() -> None:
    """Else it would arrive in front of it: not before the reader waits again."""

    async def main() -> None:
        client, taken = RecordingClient(), []
        is_open = False

        def take(output: StepOutput) -> bool:
            if is_open:
                taken.extend(output.token_ids)
            return is_open

        def output(token_id: int) -> StepOutput:
            return StepOutput(request_id="r", token_ids=[token_id])

        stream = client.generate(make_request(), take)
        first = asyncio.ensure_future(anext(stream))
        client.dispatch([output(1)])  # nobody waits yet
        await asyncio.sleep(0)
        client.dispatch([output(2)])  # refused
        is_open = True
        client.dispatch([output(3)])  # behind 2, which has not been read
        assert (await first).token_ids == [2]
        client.dispatch([output(4)])  # the reader is busy with 2
        assert [(await anext(stream)).token_ids for _ in range(2)] == [[3], [4]]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        client.dispatch([output(5)])
        client.dispatch([output(6)])
        assert taken == [5, 6]
        client.dispatch([StepOutput(request_id="r", finish_reason=FinishReason.LENGTH)])
        assert (await waiting).finish_reason is FinishReason.LENGTH
        await stream.aclose()

    asyncio.run(main())
