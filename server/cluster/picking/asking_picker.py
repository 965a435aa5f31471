"""Asks replicas how much they have to do before a prefix leaves its own.

What the picker counts is late: what ended since a replica's latest report still counts. On a busy
machine a report may be ten seconds old, and then a handful of short requests looks like a full
replica, and their prefixes would be computed twice. So a request moves on only by numbers that were
asked for then. Whoever finds its own replica with room, nearly everybody, asks nothing. An answer
that takes longer than a request can wait still counts for those that come after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from thirdeye.server.cluster.picking.picker import Picker, Report

Ask = Callable[[], Awaitable[Report]]  # raises if the replica cannot say it
# A replica that takes longer is judged by what is known. A request waits so long once at most, and
# where the machine is that busy it would wait as long for its first token.
ASK_SECONDS: Final = 3.0


class AskingPicker:
    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._asks: dict[str, Ask] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}  # one of a replica, for all who wait
        self._mute: dict[str, Report] = {}  # who has not answered, and had last reported this
        self._late: dict[str, asyncio.Task[bool]] = {}  # questions to those; one of a replica

    def update(self, reports: Mapping[str, Report], asks: Mapping[str, Ask]) -> None:
        """These replicas are there, and no others; each with its latest report."""
        self._picker.update(reports)
        self._asks = dict(asks)
        self._mute = {
            name: said for name, said in self._mute.items() if reports.get(name, said) == said
        }
        for name in self._late.keys() - reports.keys():
            self._late.pop(name).cancel()

    async def pick(self, key: bytes | None, now: float) -> str | None:
        """As `Picker.pick`."""
        if key is not None:
            asked = [name for name in self._picker.doubted(key, now) if name not in self._mute]
            if asked:
                await asyncio.wait([self._asking(name) for name in asked])
        return self._picker.pick(key, now)

    def _asking(self, name: str) -> "asyncio.Task[None]":
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._under_way.pop(name))
        return task

    async def _ask(self, name: str) -> None:
        ask, known = self._asks.get(name), self._picker.latest(name)
        if ask is None or known is None:
            return
        if earlier := self._late.pop(name, None):
            earlier.cancel()
        question = asyncio.create_task(self._hear(name, ask))
        done, _ = await asyncio.wait([question], timeout=ASK_SECONDS)
        if not done:
            self._late[name] = question
        if not (done and question.result()):
            self._mute[name] = known  # gone, or too busy: Ray will say, or its late answer

    async def _hear(self, name: str, ask: Ask) -> bool:
        """Whether it could say it."""
        try:
            report = await ask()
        except Exception:
            return False
        self._picker.take(name, report)
        self._mute.pop(name, None)
        return True
