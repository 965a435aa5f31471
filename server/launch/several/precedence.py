"""Makes the engines of crowded models give way to the others: see `Crowds` for which they are. And
tells those that load who is asked.

It is looked at whenever a request begins or ends, and tells the kernel which processes are to
compute only while nobody else wants the core: that holds within an operation, where a rule of the
engine's own would hold between two. Nothing of it runs for a server of one model.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import ModelPhase
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.launch.several.crowds import LINGER, Crowd, Crowds
from thirdeye.server.launch.several.giving_way import lower, restore
from thirdeye.server.launch.several.load_priorities import LoadPriorities

PATIENCE = 5.0  # seconds without a step, after which a crowded model computes as everybody


class HasProcess(Protocol):
    @property
    def pid(self) -> int | None:
        """Of the engine that was started last."""


class Precedence:
    """Call `look` after whatever changes the number of requests under way."""

    def __init__(
        self,
        pool: ModelPool,
        engines: Mapping[str, HasProcess],
        loads: LoadPriorities,
        lower: Callable[[int], None] = lower,
        restore: Callable[[int], None] = restore,
    ) -> None:
        """`engines` by their models' names; `lower` and `restore` are told a process."""
        self._pool, self._engines, self._loads = pool, engines, loads
        self._lower, self._restore = lower, restore
        self._crowds = Crowds()
        self._lowered: dict[str, int] = {}  # the process that was, by its model's name
        self._timer: asyncio.TimerHandle | None = None

    def look(self, now: float) -> None:
        """`now` is the running loop's time."""
        members = self._pool.members.values()
        crowds = {m.name: self._crowd_of(m) for m in members if self._is_there(m)}
        self._loads.tell([name for name, crowd in crowds.items() if crowd.under_way], now)
        self._crowds.tell(crowds, now)
        behind = {name for name in self._crowds.behind if not self._is_starved(name)}
        for name in crowds:
            pid = self._engines[name].pid
            assert pid is not None, "a model is loaded and has no process"
            is_behind = name in behind
            if is_behind == (self._lowered.get(name) == pid):
                continue
            if is_behind:
                self._lower(pid)
                self._lowered[name] = pid
            else:
                self._restore(pid)
                del self._lowered[name]
        self._pool.behind = frozenset(behind)
        if self._crowds.behind and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(now + LINGER, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look(asyncio.get_running_loop().time())

    def _is_starved(self, name: str) -> bool:
        """Others left it so little that its step does not end: until it does, it gives way to
        nobody."""
        engine = self._pool.members[name].state.engine
        return engine is not None and engine.stalled_seconds() > PATIENCE

    def _crowd_of(self, member: PoolMember) -> Crowd:
        books = self._pool.books(member)
        return Crowd(books.num_running, member.state.admission.max_num_seqs)

    def _is_there(self, member: PoolMember) -> bool:
        """An engine that has died left a number that may be another process's by now."""
        engine = member.state.engine
        is_ready = self._pool.books(member).phase is ModelPhase.READY
        return is_ready and engine is not None and engine.is_alive
