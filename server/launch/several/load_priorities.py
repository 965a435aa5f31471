"""A model that loads gives way while others are asked: their tokens come first.

A load keeps a core busy for seconds, and a lower priority makes that the time that nobody else
wants. Where nobody asks another model it loads as everybody: what else the machine does is no
answer of ours.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from thirdeye.server.launch.several.giving_way import Priority, set_priority
from thirdeye.server.launch.several.load_rule import LoadRule


class Process(Protocol):
    """As `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """None until it was waited for: as long the number is its own."""


@dataclass(eq=False, slots=True)
class OneLoad:
    model: str
    process: Process
    rule: LoadRule = field(default_factory=LoadRule)
    priority: Priority = Priority.NORMAL


class LoadPriorities:
    """Of all processes that load now. On the running loop's thread and by its clock."""

    def __init__(self, set_priority: Callable[[int, Priority], None] = set_priority) -> None:
        """`set_priority` is told a process."""
        self._set_priority = set_priority
        self._loads: set[OneLoad] = set()
        self._asked: frozenset[str] = frozenset()  # models with requests under way
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, asked: Collection[str], now: float) -> None:
        """The names of the models that have requests under way."""
        self._asked = frozenset(asked)
        for load in self._loads:
            self._place(load, load.rule.tell(is_asked=self.are_others_asked(load.model), now=now))
        self._arm()

    def are_others_asked(self, model: str) -> bool:
        return bool(self._asked - {model})

    @contextlib.contextmanager
    def loading(self, model: str, process: Process) -> Iterator[None]:
        """The model's process comes behind the others meanwhile, whenever they are asked, and
        never afterwards."""
        load = OneLoad(model, process)
        self._loads.add(load)
        try:
            self.tell(self._asked, asyncio.get_running_loop().time())
            yield
        finally:
            self._loads.discard(load)
            self._place(load, Priority.NORMAL)
            self._arm()

    def _place(self, load: OneLoad, priority: Priority) -> None:
        """One that has been waited for left a number that may be another's by now."""
        if load.priority is not priority and load.process.returncode is None:
            load.priority = priority
            self._set_priority(load.process.pid, priority)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min((load.rule.due for load in self._loads), default=math.inf)
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.tell(self._asked, asyncio.get_running_loop().time())
