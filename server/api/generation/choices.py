"""One API request as engine requests, run together: each text event goes to one function.

Streamed and whole answers are run by the same code, and leaving one early aborts every choice that
is still running.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import anyio

from thirdeye.server.api.adapters.loaded_adapters import LoadedAdapter, with_adapter
from thirdeye.server.api.field_rules.renamed_fields import FieldNames, renamed_path
from thirdeye.server.api.generation.engine_errors import coded_failure
from thirdeye.server.api.generation.request_rules import TokenLimit
from thirdeye.server.api.state.usage import ReceiptMaker, Tally
from thirdeye.server.engine.interface.types import (
    Engine,
    EngineDead,
    FinishReason,
    Request,
)
from thirdeye.server.errors import (
    ApiError,
    InternalError,
    ServiceUnavailable,
    come_back_in,
    engine_down,
)
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.stream_text import stream_text
from thirdeye.server.text.text_stream import TextOptions
from thirdeye.server.text.tokenizer import TokenizerLike

Deliver = Callable[[int, TextEvent], None]  # of the choice with this index; does not wait
Run = Callable[[Deliver], Coroutine[Any, Any, None]]  # `run_choices` of one request


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
    limit: TokenLimit | None = None  # what the caller said of the answer's tokens
    ignored: Sequence[str] = ()  # what the request asked for and the answer does not have
    warnings: Sequence[str] = ()  # what the caller may not know of the prompt
    adapter: LoadedAdapter | None = None  # that `model` is the name of

    def fingerprint(self, of_model: str) -> str:
        """Of the weights that answer: an adapter's beside the model's."""
        return with_adapter(of_model, self.adapter)

    @property
    def size(self) -> int:
        return len(self.requests)

    def renamed(self, names: FieldNames) -> Self:
        """The same, where it speaks of fields in the words of another request."""
        limit = self.limit
        if limit is not None:
            limit = replace(limit, param=renamed_path(limit.param, names))
        ignored = [renamed_path(name, names) for name in self.ignored]
        return replace(self, limit=limit, ignored=ignored)

    def width(self, max_num_seqs: int) -> int:
        """How many of its requests the engine has at once: more could not run, and would only wait
        there, in the way of others and against their own time limits."""
        return min(self.size, max_num_seqs)

    def tally(self, receipt_maker: ReceiptMaker | None = None) -> Tally:
        return Tally(
            [len(prompt) for prompt in self.prompts], self.n, self.truncated, receipt_maker
        )


async def run_choices(
    generation: Generation,
    engine: Engine,
    tokenizer: TokenizerLike,
    retry_after: Callable[[], int],
    deliver: Deliver,
) -> None:
    """Runs every choice to its end, and delivers their events as they come. Raises `ApiError` if
    one fails, behind what came before it.

    `retry_after` says in how many seconds the queue should be shorter. A choice that fails ends the
    others, as cancelling this ends all of them: their engine requests are aborted by then.
    """

    async def lane(indices: range) -> None:
        """One choice after the other."""
        for index in indices:
            request, hand_over = generation.requests[index], partial(deliver, index)
            last = await stream_text(engine, request, tokenizer, generation.options, hand_over)
            if error := failure(last, engine, retry_after):
                raise error
            hand_over(last)

    width = generation.width(engine.info.max_num_seqs)
    lanes = [lane(range(first, generation.size, width)) for first in range(width)]
    tasks = [asyncio.create_task(lane) for lane in lanes]
    try:
        await asyncio.gather(*tasks)
    except EngineDead:
        raise engine_down(engine.restart_eta) from None
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
        return ServiceUnavailable(
            "The server stopped before the answer was complete.",
            code="server_draining",
            headers=come_back_in(5),
        )
    if event.finish_reason is not FinishReason.ERROR:
        return None
    if event.error_code is not None:
        return coded_failure(event.error_code, event.error or "", retry_after)
    if not engine.is_alive:
        return engine_down(engine.restart_eta, event.error)
    return InternalError(event.error or "The engine failed.", code="internal_error")
