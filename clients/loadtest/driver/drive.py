"""When requests are sent: the two loops that load testers know, and what they can tell.

* Closed: `concurrency` users, each with one request at a time. The server sets the pace, so this
  finds its throughput; it cannot show queueing, as users wait with their next request.
* Open: conversations arrive when they are meant to, whether the server keeps up or not, as users
  of a public service do. Latency counts from the intended time ("coordinated omission": a tester
  that sends late because of a stall, and starts its watch then, hides the stall).

It knows no HTTP: `Ask` sends one turn. The clock is the event loop's, or whatever is handed in.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from thirdeye.clients.loadtest.driver.exchange import Outcome
from thirdeye.clients.loadtest.driver.record import Record
from thirdeye.clients.loadtest.driver.wire import Clock
from thirdeye.clients.loadtest.workload.prompts import Conversation, Message, Turn


class Ask(Protocol):
    """`Exchange.ask`."""

    def __call__(
        self, history: list[Message], turn: Turn, intended_at: float, turn_number: int
    ) -> Awaitable[Outcome]: ...


class Driver:
    """Runs conversations; `records` are those of the requests that have ended, in that order."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self.records: list[Record] = []
        self.num_running = 0

    async def closed(
        self, conversations: Iterable[Conversation], concurrency: int, seconds: float | None = None
    ) -> None:
        """`concurrency` users, until there are no more conversations or `seconds` are over.

        What runs by then is read to its end.
        """
        deadline = self._deadline(seconds)
        shared = iter(conversations)
        await asyncio.gather(*(self._user(shared, deadline) for _ in range(concurrency)))

    async def open(
        self,
        conversations: Iterable[Conversation],
        max_concurrency: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Each conversation at its `at`; more than `max_concurrency` wait at the client."""
        start, deadline = self._clock(), self._deadline(seconds)
        places: AbstractAsyncContextManager[None] = (
            asyncio.Semaphore(max_concurrency) if max_concurrency else nullcontext()
        )
        async with asyncio.TaskGroup() as tasks:
            for conversation in conversations:
                intended_at = start + (conversation.at or 0.0)
                if deadline is not None and intended_at >= deadline:
                    break
                await self._sleep_until(intended_at)
                tasks.create_task(self._converse(conversation, intended_at, places))

    async def _user(self, conversations: Iterator[Conversation], deadline: float | None) -> None:
        while deadline is None or self._clock() < deadline:
            conversation = next(conversations, None)
            if conversation is None:
                return
            await self._converse(conversation, self._clock(), nullcontext())

    async def _converse(
        self,
        conversation: Conversation,
        intended_at: float,
        places: AbstractAsyncContextManager[None],
    ) -> None:
        """All turns; one that fails ends the conversation, as there is nothing to answer to."""
        history = list(conversation.history)
        for number, turn in enumerate(conversation.turns):
            if number:
                intended_at = self._clock() + turn.think_seconds
                await self._sleep_until(intended_at)
            async with places:
                outcome = await self._send(history, turn, intended_at, number)
            if outcome.record.error is not None:
                return
            history.append({"role": "user", "content": turn.text})
            history.append({"role": "assistant", "content": outcome.text})

    async def _send(
        self, history: list[Message], turn: Turn, intended_at: float, number: int
    ) -> Outcome:
        self.num_running += 1
        try:
            outcome = await self._ask(history, turn, intended_at, number)
        finally:
            self.num_running -= 1
        self.records.append(outcome.record)
        return outcome

    async def _sleep_until(self, when: float) -> None:
        """Returns at once if it is past: arrivals that are late follow each other closely."""
        if (wait := when - self._clock()) > 0:
            await asyncio.sleep(wait)

    def _deadline(self, seconds: float | None) -> float | None:
        return None if seconds is None else self._clock() + seconds


def arrive(conversations: Iterable[Conversation], times: Iterable[float]) -> Iterator[Conversation]:
    """Gives conversations their arrival times; ends with the shorter of the two."""
    for conversation, at in zip(conversations, times, strict=False):
        yield Conversation(conversation.turns, conversation.history, at)
