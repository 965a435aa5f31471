"""Asks replicas how much they have to do before a prefix leaves its own.

What the picker counts is late: what ended since a replica's latest report still counts. On a busy
machine a report may be ten seconds old, and then a handful of short requests looks like a full
replica, and their prefixes would be computed twice. So a request moves on only by numbers that were
asked for then. Whoever finds its own replica with room, nearly everybody, asks nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from thirdeye.server.cluster.picking.picker import Picker, Report

Ask = Callable[[], Awaitable[Report]]  # raises if the replica cannot say it
ASK_SECONDS: Final = 1.0  # a replica that takes longer is judged by what is known


class AskingPicker:
    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._asks: dict[str, Ask] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}  # one of a replica, for all who wait
        self._mute: dict[str, Report] = {}  # who did not answer, and had last reported this

    def update(self, reports: Mapping[str, Report], asks: Mapping[str, Ask]) -> None:
        """These replicas are there, and no others; each with its latest report."""
        self._picker.update(reports)
        self._asks = dict(asks)
        self._mute = {
            name: said for name, said in self._mute.items() if reports.get(name, said) == said
        }

    async def pick(self, key: bytes | None, now: float) -> str | None:
        """As `Picker.pick`."""
        if key is not None:
            asked = [name for name in self._picker.doubted(key) if name not in self._mute]
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
        try:
            report = await asyncio.wait_for(ask(), ASK_SECONDS)
        except Exception:  # it is gone, or too busy: Ray will say
            self._mute[name] = known
        else:
            self._picker.take(name, report)
