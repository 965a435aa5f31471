"""The engine's steps, told to those whose requests they computed.

The engine is watched while somebody wants to know, and not otherwise: an engine that nobody watches
sends no records.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import cast

from thirdeye.server.engine.interface.step_record import StepRecord, StepRow
from thirdeye.server.engine.interface.types import Engine, EngineDead

OnStep = Callable[[StepRecord, StepRow], None]


class StepEvents:
    """Calls, for each step, whoever listens for one of its rows. On one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, OnStep] = {}  # by engine request
        self._reader: asyncio.Task[None] | None = None
        self._next_step = 0  # what came before is of others

    def listen(self, engine: Engine, request_ids: Iterable[str], on_step: OnStep) -> None:
        self._listeners.update(dict.fromkeys(request_ids, on_step))
        if self._listeners and self._reader is None:
            self._reader = asyncio.create_task(self._read(engine))

    def leave(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self._listeners.pop(request_id, None)
        if not self._listeners and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def _read(self, engine: Engine) -> None:
        """Until nobody listens, or the engine ends: another one counts its steps anew."""
        # Every engine gives a generator; `AsyncIterator` cannot say that it closes.
        records = cast("AsyncGenerator[StepRecord, None]", engine.watch(self._next_step))
        try:
            async with aclosing(records):
                async for record in records:
                    self._next_step = record.step + 1
                    for row in record.rows:
                        if on_step := self._listeners.get(row.request_id):
                            on_step(record, row)
        except EngineDead:
            pass
        self._next_step = 0
        self._reader = None
