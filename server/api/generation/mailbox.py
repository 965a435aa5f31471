"""Items from several tasks to one: whoever takes gets all that are there.

So a reader is woken once for what came together, and one that lags behind catches up in one go. Not
thread-safe, and nothing is bounded: who puts knows how much there can be.
"""

import asyncio
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """For one reader at a time."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether the reader has taken everything, and waits for more."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, item: Item) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Item]:
        """All items since the last call, in order; waits until there is one."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        items, self._items = self._items, []
        return items
