"""Threads whose work is of several tenants: nobody waits for all that another has brought.

Of those who wait, a tenant goes next of which the fewest are at work, and of equals the one that
has had the fewest seconds. Where there are several threads none takes the last one: there is one
for whoever comes then. A tenant that comes back from idling starts level with those who stayed.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class TenantExecutor(Protocol):
    def submit(self, tenant: str, work: Callable[[], Made], /) -> "Future[Made]":
        """`work` will be done for this tenant."""


@dataclass(slots=True, eq=False)
class _Tenant(Generic[Item]):
    waiting: deque[tuple[int, Item]] = field(default_factory=deque)  # arrival, item
    num_running: int = 0
    seconds: float = 0.0  # that it has had

    @property
    def is_present(self) -> bool:
        return bool(self.waiting or self.num_running)


class FairTurns(Generic[Item]):
    """Whose turn it is. It knows no thread and no clock."""

    def __init__(self, max_running: int) -> None:
        """`max_running`: of one tenant."""
        self._max_running = max_running
        self._tenants: dict[str, _Tenant[Item]] = {}
        self._num_arrived = 0

    def push(self, name: str, item: Item) -> None:
        tenant = self._tenants.setdefault(name, _Tenant())
        if not tenant.is_present:
            others = [one.seconds for one in self._tenants.values() if one.is_present]
            tenant.seconds = max(tenant.seconds, min(others, default=0.0))
        tenant.waiting.append((self._num_arrived, item))
        self._num_arrived += 1

    def pop(self) -> tuple[str, Item] | None:
        """Who goes next, and now runs; None where nobody waits who may."""
        ready = [
            (tenant.num_running, tenant.seconds, tenant.waiting[0][0], name)
            for name, tenant in self._tenants.items()
            if tenant.waiting and tenant.num_running < self._max_running
        ]
        if not ready:
            return None
        *_, name = min(ready)
        tenant = self._tenants[name]
        tenant.num_running += 1
        return name, tenant.waiting.popleft()[1]

    def done(self, name: str, seconds: float) -> None:
        """One of its items has run for so long."""
        tenant = self._tenants[name]
        tenant.num_running -= 1
        tenant.seconds += seconds
        self._forget()

    def drop(self, name: str, is_dropped: Callable[[Item], bool]) -> None:
        """Nobody waits for these any more."""
        if (tenant := self._tenants.get(name)) is not None:
            tenant.waiting = deque(one for one in tenant.waiting if not is_dropped(one[1]))
            self._forget()

    def _forget(self) -> None:
        """What they have had counts as long as there is somebody to whom it matters."""
        if not any(tenant.is_present for tenant in self._tenants.values()):
            self._tenants.clear()


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[Made]):
    work: Callable[[], Made]
    future: "Future[Made]"

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            made = self.work()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(made)


class FairExecutor:
    def __init__(
        self,
        num_threads: int,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        threads: Executor | None = None,
    ) -> None:
        """`threads`: so many, where they are not its own."""
        self._clock = clock
        self._threads = threads or ThreadPoolExecutor(num_threads, name)
        self._turns: FairTurns[_Job[Any]] = FairTurns(max(num_threads - 1, 1))
        self._lock = threading.Lock()

    def submit(self, tenant: str, work: Callable[[], Made], /) -> "Future[Made]":
        job = _Job(work, Future[Made]())
        with self._lock:
            self._turns.push(tenant, job)
        job.future.add_done_callback(lambda done: self._drop(tenant, done))
        self._threads.submit(self._work)
        return job.future

    def _drop(self, tenant: str, done: "Future[Any]") -> None:
        """What was cancelled is not kept until its turn: it may be large."""
        if done.cancelled():
            with self._lock:
                self._turns.drop(tenant, lambda job: job.future is done)

    def _work(self) -> None:
        """All that may be done now: what had to wait for its tenant's own is among it."""
        while True:
            with self._lock:
                found = self._turns.pop()
            if found is None:
                return
            tenant, job = found
            began = self._clock()
            job.run()
            del found, job  # what it made is its caller's alone
            with self._lock:
                self._turns.done(tenant, self._clock() - began)
