"""A stream's first item, awaited before its answer has a status.

What fails before the first token (a queue's time limit, a refusal, a dead engine) is then a real
status with its Retry-After, and not a 200 with an error event in it. After some silence the answer
begins without it, since connections that stay silent are cut on their way.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Generic, TypeVar

import anyio

Item = TypeVar("Item")


class HeadStart(Generic[Item]):
    """`source`, already running. Whoever made it has to close it, iterated or not."""

    def __init__(self, source: AsyncGenerator[Item, None]) -> None:
        self._source = source
        self._first = asyncio.create_task(self._pull())

    async def _pull(self) -> list[Item]:
        """The first item, or nothing if there is none."""
        async for item in self._source:
            return [item]
        return []

    async def wait(self, seconds: float) -> bool:
        """True once the first item is there, False after `seconds` (0: any time) without one.

        Raises what the source raised in its place.
        """
        done, _ = await asyncio.wait([self._first], timeout=seconds or None)
        if done:
            self._first.result()
        return bool(done)

    async def __aiter__(self) -> AsyncIterator[Item]:
        for item in await self._first:
            yield item
        async for item in self._source:
            yield item

    async def aclose(self) -> None:
        """Close the source, which ends its work; shielded, as our own task may be cancelled."""
        self._first.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(self._first, return_exceptions=True)
            await self._source.aclose()
