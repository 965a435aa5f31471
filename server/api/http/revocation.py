"""Keys that are taken away while their requests are answered: such an answer ends, with an error.

The gate gives each request a `Revocation` and `ApiKeys` keeps those of requests under way, by key.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any

from thirdeye.server.errors import Unauthorized


class Revocation:
    """Of one request: whether its key is still one. It is over once, and what was given to `guard`
    ends."""

    def __init__(self) -> None:
        self._is_over = False
        self._tasks: set[asyncio.Task[object]] = set()

    def revoke(self) -> None:
        self._is_over = True
        for task in self._tasks:
            task.cancel()

    def is_over(self) -> bool:
        return self._is_over

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work. Raises `Unauthorized`, the work cancelled, once the key is gone."""
        if self.is_over():  # while the request was still read
            work.close()
            raise self.error()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await work
        except asyncio.CancelledError:
            if not self.is_over() or task.uncancel():
                raise  # somebody else cancelled it, too
            raise self.error() from None
        finally:
            self._tasks.discard(task)

    async def guard_bodies(
        self, bodies: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """The bodies of a stream that is no answer, up to the first one behind the end. Raises
        `Unauthorized`."""
        async with aclosing(bodies):
            async for body in bodies:
                if self.is_over():
                    raise self.error()
                yield body

    @staticmethod
    def error() -> Unauthorized:
        return Unauthorized(
            "The API key was taken away while this was answered.",
            code="key_revoked",
            headers={"WWW-Authenticate": "Bearer"},
        )


class Revocations:
    """Of all requests under way, by their key's digest."""

    def __init__(self) -> None:
        self._open: defaultdict[bytes, set[Revocation]] = defaultdict(set)

    def begin(self, digest: bytes) -> tuple[Revocation, Callable[[], None]]:
        """For a new request; call the second at its end."""
        revocation = Revocation()
        self._open[digest].add(revocation)

        def end() -> None:
            self._open[digest].discard(revocation)
            if not self._open[digest]:
                del self._open[digest]

        return revocation, end

    def revoke(self, digests: Iterable[bytes]) -> int:
        """How many requests it ended."""
        ended = [revocation for digest in digests for revocation in self._open.get(digest, ())]
        for revocation in ended:
            revocation.revoke()
        return len(ended)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))
