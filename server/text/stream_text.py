"""One request, from the engine's outputs to the events of its text."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

import msgspec

from thirdeye.server.engine.interface.types import (
    Engine,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
)
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.text_stream import TextOptions, TextStream
from thirdeye.server.text.tokenizer import TokenizerLike

LAST_WORD_SECONDS = 1.0  # a step of a large model's prefill may take longer


async def stream_text(
    engine: Engine,
    request: Request,
    tokenizer: TokenizerLike,
    options: TextOptions,
    deliver: Callable[[TextEvent], None],
    clock: Callable[[], float] = time.monotonic,
) -> TextEvent:
    """Runs one request: delivers its events as they come, and returns the last. It, and only it,
    has a finish_reason.

    `deliver` is called where the engine's step comes in, so it must not wait; what it raises comes
    out here. The engine is told to stop as soon as a stop string matches or the time for decoding
    is over, and has ended the request when this returns: that is a step later, and brings the
    engine's own timings. Cancelling this aborts the request. Raises `EngineDead` as the engine
    does.
    """
    stream = TextStream(tokenizer, options, _hidden_ids(request.sampling, tokenizer))
    stream.begin_with(request.answer_token_ids)
    watch = DecodeTimer(options.max_seconds, clock).watch if options.max_seconds else None
    last: TextEvent | None = None

    def on_output(output: StepOutput) -> bool:
        """What comes behind the end is dropped."""
        nonlocal last
        if last is not None:
            return True
        event = stream.feed(output if watch is None else watch(output))
        if stream.is_finished:
            last = event
            if output.finish_reason is None:
                engine.abort(request.request_id)
                patience.reschedule(asyncio.get_running_loop().time() + LAST_WORD_SECONDS)
        elif event is not None:
            deliver(event)
        return True

    # `Engine.generate` promises that its iterator can be closed; `AsyncIterator` cannot say so.
    outputs = cast("AsyncGenerator[StepOutput, None]", engine.generate(request, on_output))
    try:
        async with asyncio.timeout(None) as patience, aclosing(outputs):
            async for output in outputs:
                if last is not None and output.finish_reason is not None:
                    last = msgspec.structs.replace(last, timings=output.timings)
                on_output(output)
                if output.finish_reason is not None:
                    break
    except TimeoutError:
        if last is None:
            raise  # not ours: the engine's last word is all that we do not wait for
    assert last is not None, "the engine ended a request without a finish_reason"
    return last


class DecodeTimer:
    """Ends an answer with LENGTH at the first output that comes too long after the first token."""

    def __init__(self, max_seconds: float, clock: Callable[[], float]) -> None:
        self._max_seconds = max_seconds
        self._clock = clock
        self._first_at: float | None = None

    def watch(self, output: StepOutput) -> StepOutput:
        if not output.token_ids:
            return output
        now = self._clock()
        if self._first_at is None:
            self._first_at = now
        is_over = now - self._first_at >= self._max_seconds
        if not is_over or output.finish_reason is not None:
            return output
        return msgspec.structs.replace(output, finish_reason=FinishReason.LENGTH)


def _hidden_ids(sampling: SamplingParams, tokenizer: TokenizerLike) -> frozenset[int]:
    """Ids that end this request; an ignored end-of-sequence is a special token like others."""
    eos = frozenset() if sampling.ignore_eos else tokenizer.eos_token_ids
    return eos.union(sampling.stop_token_ids)
