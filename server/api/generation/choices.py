"""One API request's engine requests, and their text events as one stream.

Streaming and whole answers read the same merged stream, and leaving it early aborts every choice
that is still running. It comes in batches: a reader that is slower than the engine finds all that
came meanwhile in one, and one that keeps up finds one event.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from thirdeye.server.api.generation.engine_errors import coded_failure
from thirdeye.server.api.generation.mailbox import Mailbox
from thirdeye.server.api.state.usage import ReceiptMaker, Tally
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
)
from thirdeye.server.errors import ApiError, InternalError, Unavailable, engine_down
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.shortcut import Shortcut
from thirdeye.server.text.text_stream import TextOptions, stream_text
from thirdeye.server.text.tokenizer import Tokenizer

Indexed = tuple[int, TextEvent]
Batch = list[Indexed]  # never empty, in the order they came
Item = Indexed | Exception | None  # None: a lane has ended
Way = Callable[[int, Mailbox[Item]], Shortcut]  # of a choice; open only while the box is awaited


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything decided about a request before it is admitted."""

    id: str
    created: int  # unix seconds
    model: str  # the served name the caller used
    prompts: Sequence[list[int]]
    n: int
    requests: Sequence[Request]  # index = prompt x n + sample
    options: TextOptions
    truncated: int = 0  # prompt tokens dropped because the caller asked
    notes: Mapping[str, object] = field(default_factory=dict)  # for the log

    @property
    def size(self) -> int:
        return len(self.requests)

    def width(self, max_num_seqs: int) -> int:
        """How many of its requests the engine has at once: more could not run, and would only wait
        there, in the way of others and against their own time limits."""
        return min(self.size, max_num_seqs)

    def tally(self, receipt_maker: ReceiptMaker | None = None) -> Tally:
        return Tally(
            [len(prompt) for prompt in self.prompts], self.n, self.truncated, receipt_maker
        )


async def events(
    generation: Generation,
    engine: Engine,
    tokenizer: Tokenizer,
    retry_after: Callable[[], int] = lambda: 1,
    way: Way | None = None,
) -> AsyncGenerator[Batch, None]:
    """(choice index, event) of all choices as they come. Raises `ApiError` if one fails, behind
    what came before it.

    `retry_after` says in how many seconds the queue should be shorter. `way` makes each
    choice's way past this iterator: what goes there is not among the batches.
    Closing or cancelling it closes every choice's stream, which aborts its engine request.
    """

    async def lane(indices: range) -> AsyncGenerator[Indexed, None]:
        """One choice after the other."""
        for index in indices:
            request = generation.requests[index]
            shortcut = way(index, mailbox) if way is not None else None
            stream = stream_text(engine, request, tokenizer, generation.options, shortcut=shortcut)
            async with aclosing(stream):
                async for event in stream:
                    yield index, event

    mailbox: Mailbox[Item] = Mailbox()
    width = generation.width(engine.info.max_num_seqs)
    lanes = [lane(range(first, generation.size, width)) for first in range(width)]
    try:
        async with aclosing(merge(lanes, mailbox)) as merged:
            async for batch in merged:
                for position, (_, event) in enumerate(batch):
                    if error := failure(event, engine, retry_after):
                        if position:
                            yield batch[:position]
                        raise error
                yield batch
    except EngineDead:
        raise engine_down(engine.restart_eta) from None


async def merge(
    streams: Sequence[AsyncGenerator[Indexed, None]], mailbox: Mailbox[Item]
) -> AsyncGenerator[Batch, None]:
    """The streams' events in the order they come: all that are there, whenever it is asked."""

    async def pump(stream: AsyncGenerator[Indexed, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    mailbox.put(item)
            mailbox.put(None)
        except Exception as error:
            mailbox.put(error)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    num_open = len(tasks)
    try:
        while num_open:
            items = await mailbox.take()
            num_open -= items.count(None)
            error = next((item for item in items if isinstance(item, Exception)), None)
            if error is not None:
                items = items[: items.index(error)]
            if batch := [item for item in items if isinstance(item, tuple)]:
                yield batch
            if error is not None:
                raise error
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel and wait, even when our own task is being cancelled: the aborts happen in there."""
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.gather(*tasks, return_exceptions=True)


def failure(
    event: TextEvent, engine: Engine, retry_after: Callable[[], int] = lambda: 1
) -> ApiError | None:
    """The error an event stands for: nobody asked for an abort who is still listening."""
    if event.finish_reason is FinishReason.ABORT:
        return Unavailable(
            "The server stopped before the answer was complete.", code="server_draining"
        )
    if event.finish_reason is not FinishReason.ERROR:
        return None
    if event.error_code is not None:
        return coded_failure(event.error_code, event.error or "", retry_after)
    if not engine.is_alive:
        return engine_down(engine.restart_eta, event.error)
    return InternalError(event.error or "The engine failed.", code="internal_error")
