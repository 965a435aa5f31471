"""The latest steps of an engine, for any number of readers, each at its own pace.

A ring of its own bounds what it holds: a reader that falls behind by more than the ring loses
records (it sees a gap in their numbers), never memory. It lives on one event loop, and knows no
engine: whoever receives records posts them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from thirdeye.server.engine.interface.step_record import RING_STEPS, StepRecord


class StepHistory:
    """Records come in order, by `post`; `read` gives them out again."""

    def __init__(self, size: int = RING_STEPS) -> None:
        self._ring: deque[StepRecord] = deque(maxlen=size)
        self._changed = asyncio.Event()
        self._is_closed = False
        self.num_readers = 0

    def post(self, records: Sequence[StepRecord]) -> None:
        if records:
            self._ring.extend(records)
            self._wake()

    def close(self) -> None:
        """No record will follow: readers end once they have read what is there."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def read(self, since: int) -> AsyncGenerator[StepRecord, None]:
        """The records from step `since` on, and those to come."""
        self.num_readers += 1
        try:
            while True:
                while self._ring and self._ring[-1].step >= since:
                    for record in [record for record in self._ring if record.step >= since]:
                        since = record.step + 1
                        yield record
                if self._is_closed:
                    return
                await self._changed.wait()
        finally:
            self.num_readers -= 1
