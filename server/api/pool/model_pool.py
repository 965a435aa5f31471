"""Several models in one server: loads what is asked for, within a bound of memory.

The decisions are `residency.py`'s; here they become engines that start and stop, and requests that
wait. All of it runs on the event loop's thread.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from thirdeye.server.api.pool.model_terms import ModelPhase, Ticket, TicketOutcome
from thirdeye.server.api.pool.pool_member import PoolMember
from thirdeye.server.api.pool.residency import Orders, Residency, Resident
from thirdeye.server.api.state.server_state import named
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.errors import ServiceUnavailable, come_back_in, draining

logger = logging.getLogger("thirdeye.models")

FIRST_LOAD_SECONDS = 5.0  # what a load should take before one was measured

AtEnd = Callable[[Callable[[], object]], object]


class ModelPool:
    """The first member is the one that requests without a name mean."""

    def __init__(
        self,
        members: Sequence[PoolMember],
        max_bytes: int,
        *,
        max_waiting: int = 64,
        max_wait: float = 120.0,
    ) -> None:
        """As `Residency`. Raises `DoesNotFit`."""
        self.members = {member.name: member for member in members}
        self.residency = Residency(
            [member.terms for member in members],
            max_bytes,
            max_waiting=max_waiting,
            max_wait=max_wait,
        )
        self.num_loads = dict.fromkeys(self.members, 0)
        self.load_seconds = dict.fromkeys(self.members, FIRST_LOAD_SECONDS)  # of the last one
        self.behind: frozenset[str] = frozenset()  # names of those that give way to others now
        self.on_change: Callable[[float], None] = lambda _: None  # told the loop's time
        self._futures: dict[Ticket, asyncio.Future[None]] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def default(self) -> PoolMember:
        return next(iter(self.members.values()))

    def find(self, name: str | None) -> PoolMember:
        """The one that a name means. Raises `ResourceNotFound`."""
        if not name:
            return self.default
        model, _ = named(name, [member.model for member in self.members.values()])
        return self.members[model.names[0]]

    def seconds_to_sleep(self, member: PoolMember) -> float | None:
        """If nobody uses it; None: never."""
        books = self.books(member)
        if books.terms.is_pinned or books.keep_alive < 0:
            return None
        at = books.expires_at
        return books.keep_alive if at is None else max(at - self._now(), 0.0)

    def books(self, member: PoolMember) -> Resident:
        return self.residency.models[member.name]

    @property
    def in_flight(self) -> int:
        """Requests that run on some model, or wait for one."""
        models = self.residency.models.values()
        return sum(model.num_running + len(model.waiting) for model in models)

    # --- requests ---

    async def acquire(
        self,
        member: PoolMember,
        at_end: AtEnd,
        keep_alive: float | None = None,
        tenant: str = "",
    ) -> None:
        """Wait until the model is loaded; `at_end` is given what releases it. Cancel it to wait no
        more. Raises `ServiceUnavailable`."""
        ticket, orders = self.residency.ask(member.name, self._now(), tenant)
        await self._wait(ticket, orders, at_end, partial(self._release, member, keep_alive))
        self._check(member, ticket)

    async def load(self, member: PoolMember) -> None:
        """The same for an operator: one that failed is tried again. Raises `ServiceUnavailable`."""
        ticket, orders = self.residency.reload(member.name, self._now())
        await self._wait(ticket, orders, lambda release: release(), partial(self._release, member))
        if ticket.outcome is TicketOutcome.FAILED:  # an operator is told what the log says
            why = self.books(member).why_failed
            raise self._failed(member, f": {why}" if why else ": the server's log says why.")
        self._check(member, ticket)

    def unload(self, member: PoolMember) -> None:
        """It goes as soon as its running requests have ended. Not a pinned one."""
        self._follow(self.residency.unload(member.name, self._now()))

    def progress(self, member: PoolMember) -> str:
        """Where a model stands that is not ready."""
        phase = self.books(member).phase
        if phase is ModelPhase.LOADING:
            return f"loading: {member.state.detail}"
        if phase is ModelPhase.FAILED:
            return "it failed"
        return "it waits for memory" if self.books(member).waiting else "it is asleep"

    async def _wait(
        self, ticket: Ticket, orders: Orders, at_end: AtEnd, release: Callable[[], None]
    ) -> None:
        self._follow(orders)
        if ticket.outcome is None:
            self._futures[ticket] = asyncio.get_running_loop().create_future()
            try:
                await self._futures[ticket]
            except asyncio.CancelledError:
                if ticket.is_granted:
                    release()
                else:
                    self._follow(self.residency.leave(ticket, self._now()))
                raise
            finally:
                del self._futures[ticket]
        if ticket.is_granted:
            at_end(release)

    def _release(self, member: PoolMember, keep_alive: float | None = None) -> None:
        self._follow(self.residency.release(member.name, self._now(), keep_alive))

    def _check(self, member: PoolMember, ticket: Ticket) -> None:
        """Raises `ServiceUnavailable` unless it was granted."""
        if ticket.is_granted:
            return
        if ticket.outcome is TicketOutcome.CLOSED:
            raise draining("The server is shutting down and takes no new requests.")
        if ticket.outcome is TicketOutcome.FAILED:
            more = ": the server's log says why. An operator can try again with POST /models/load."
            raise self._failed(member, more)
        rule = f"was not ready within {self.residency.max_wait:g} s"
        if ticket.outcome is TicketOutcome.QUEUE_FULL:
            rule = f"has {self.residency.max_waiting} requests that wait for it already"
        raise ServiceUnavailable(
            f"The model '{member.name}' {rule} ({self.progress(member)}). Please try again.",
            code="model_loading",
            headers=come_back_in(math.ceil(self.load_seconds[member.name])),
        )

    def _failed(self, member: PoolMember, more: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"The model '{member.name}' could not be loaded, or not be kept alive{more}",
            code="engine_failed",
            headers={"x-should-retry": "false"},
        )

    # --- engines ---

    def _follow(self, orders: Orders) -> None:
        for ticket in orders.decided:
            future = self._futures.get(ticket)
            if future is not None and not future.done():
                future.set_result(None)
        for name in orders.stop:
            self._spawn(self._stop(self.members[name]))
        for name in orders.start:
            self.members[name].state.load()
            self._lives[name] = self._spawn(self._live(self.members[name]))
        self._arm()
        try:
            self.on_change(self._now())
        except Exception:  # who computes first is a comfort, and no request's concern
            logger.exception("models do not give way to each other any more")
            self.on_change = lambda _: None

    async def _live(self, member: PoolMember) -> None:
        """From its load until it is stopped, or dies for good."""
        began = self._now()
        try:
            await member.loadable.start()
            self.load_seconds[member.name] = seconds = self._now() - began
            self.num_loads[member.name] += 1
            logger.info("%s is loaded, in %.1f s", member.name, seconds)
            self._follow(self.residency.loaded(member.name, self._now()))
            await member.loadable.supervise()
        except EngineDead as error:
            self._fail(member, str(error))
        except Exception as error:  # of the other models none is touched by it
            logger.exception("%s: a bug, or no memory", member.name)
            await self._end(member)
            what = "no memory" if isinstance(error, MemoryError) else "a bug"
            self._fail(member, f"{what} of the server: {type(error).__name__}")

    async def _end(self, member: PoolMember) -> str:
        """Whatever of it was started ends; why not, if it does not, which is tried twice."""
        why = ""
        for _ in range(2):
            try:
                await member.loadable.stop()
                return ""
            except Exception as error:
                why = f"its process could not be ended: {type(error).__name__}"
                logger.exception("%s: its process could not be ended", member.name)
        return why

    def _fail(self, member: PoolMember, why: str) -> None:
        if self.books(member).phase is ModelPhase.LEAVING:
            return  # `_stop` tells
        logger.error("%s: %s", member.name, why)
        member.state.fail(why)
        self._follow(self.residency.failed(member.name, why, self._now()))

    async def _stop(self, member: PoolMember) -> None:
        why, life = await self._end(member), self._lives[member.name]
        if why:
            life.cancel()  # it would look after an engine that nobody counts any more
        await asyncio.wait([life])
        if why:
            logger.error("%s: %s", member.name, why)
            member.state.fail(why)
            self._follow(self.residency.failed(member.name, why, self._now()))
            return
        member.state.sleep()
        logger.info("%s is asleep, its memory is free", member.name)
        self._follow(self.residency.stopped(member.name, self._now()))

    def refuse(self) -> None:
        """From now on nobody is let in, and nobody waits."""
        self._follow(self.residency.close())

    async def close(self) -> None:
        """Stop all: the answers that are left end with an error. Nothing is loaded any more, and
        what is being loaded leaves nothing behind."""
        self.refuse()
        if self._timer is not None:
            self._timer.cancel()
        for name, life in self._lives.items():
            if self.residency.models[name].phase is ModelPhase.LOADING:
                life.cancel()
        ready = [one for one in self.members.values() if self.books(one).phase is ModelPhase.READY]
        for member, why in zip(ready, await asyncio.gather(*map(self._end, ready)), strict=True):
            if why:
                self._lives[member.name].cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- time ---

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _arm(self) -> None:
        """Ring when something is due. A bell that rings too early does no harm."""
        at = self.residency.next_tick()
        if at is None or (self._timer is not None and self._timer.when() <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._follow(self.residency.tick(self._now()))
