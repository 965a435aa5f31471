"""Which models are in memory, who leaves for whom, and who waits: a pure state machine.

    ABSENT -> LOADING -> READY -> LEAVING -> ASLEEP -> LOADING ...    FAILED: from LOADING, READY

It is told what happens (a request, the end of one, a model loaded, stopped or failed, the time) and
answers with what to do: models to start and to stop. It owns no engine, no clock and no task.

* The bytes of models that are loading, ready or leaving never exceed `max_bytes`.
* A model with running requests is not stopped, a pinned one never.
* Models are loaded in the order in which they were first asked for. For the first that waits for
  memory the least recently used leave; one that is busy takes no new requests until then, so
  nobody waits for ever. A model that was loaded serves all who waited for it before it leaves.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from thirdeye.server.api.pool.model_terms import (
    HOLDING,
    UNLOADED,
    ModelPhase,
    ModelTerms,
    Ticket,
    TicketOutcome,
    check_fits,
)


@dataclass(slots=True)
class Resident:
    """One model's books."""

    terms: ModelTerms
    keep_alive: float  # as the last request asked
    phase: ModelPhase = ModelPhase.ABSENT
    num_running: int = 0
    last_granted: float = 0.0
    last_used: float = 0.0  # by a request that ended, or began
    waiting: list[Ticket] = field(default_factory=list)  # oldest first
    must_leave: bool = False  # an operator said so
    yields: bool = False  # takes no new requests: it leaves when the running ones have ended
    why_failed: str = ""

    @property
    def is_idle(self) -> bool:
        return self.phase is ModelPhase.READY and not self.num_running

    @property
    def is_open(self) -> bool:
        """A request would run at once."""
        return self.phase is ModelPhase.READY and not self.yields

    @property
    def expires_at(self) -> float | None:
        """When it is put to sleep if nobody uses it; None: never, or it is in use."""
        is_kept = self.terms.is_pinned or self.keep_alive < 0
        return None if is_kept or not self.is_idle else self.last_used + self.keep_alive


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be done now. Waiting tickets that were decided have their outcome in them."""

    start: list[str] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    decided: list[Ticket] = field(default_factory=list)


class Residency:
    """Every method takes the time in seconds by one clock, which never goes back."""

    def __init__(
        self, models: Sequence[ModelTerms], max_bytes: int, *, max_waiting: int, max_wait: float
    ) -> None:
        """`max_waiting`: requests that may wait for one model; `max_wait`: seconds that each may.
        Raises `DoesNotFit`."""
        check_fits(tuple(models), max_bytes)
        self.max_bytes, self.max_waiting, self.max_wait = max_bytes, max_waiting, max_wait
        self.models = {terms.name: Resident(terms, terms.keep_alive) for terms in models}
        self._wanted: list[str] = []  # in the order of their first waiting request
        self._is_closed = False

    @property
    def num_bytes(self) -> int:
        """Held now."""
        return sum(m.terms.num_bytes for m in self.models.values() if m.phase in HOLDING)

    def ask(self, name: str, now: float, tenant: str = "") -> tuple[Ticket, Orders]:
        """A request for a model that there is. Where all places to wait are taken, whoever has
        fewer of them gets the last one of whoever has the most."""
        model, orders = self.models[name], Orders()
        ticket = Ticket(name, now + self.max_wait, tenant)
        if self._is_closed:
            ticket.outcome = TicketOutcome.CLOSED
        elif model.phase is ModelPhase.FAILED:
            ticket.outcome = TicketOutcome.FAILED
        elif model.phase is ModelPhase.READY and not model.yields:
            self._grant(model, ticket, now)
        elif len(model.waiting) >= self.max_waiting and not self._give_way(model, tenant, orders):
            ticket.outcome = TicketOutcome.QUEUE_FULL
        else:
            model.waiting.append(ticket)
            if name not in self._wanted:
                self._wanted.append(name)
            self._schedule(now, orders)
        return ticket, orders

    def release(self, name: str, now: float, keep_alive: float | None = None) -> Orders:
        """A granted request has ended; `keep_alive` is what it asked for, if it did."""
        model = self.models[name]
        model.num_running -= 1
        assert model.num_running >= 0, "a grant was released twice"
        model.last_used = now
        model.keep_alive = model.terms.keep_alive if keep_alive is None else keep_alive
        return self.tick(now)

    def leave(self, ticket: Ticket, now: float) -> Orders:
        """Whoever waited has gone."""
        waiting = self.models[ticket.model].waiting
        if ticket in waiting:
            waiting.remove(ticket)
        return self._schedule(now)

    def reload(self, name: str, now: float) -> tuple[Ticket, Orders]:
        """As `ask`, by an operator: a model that failed is tried again."""
        model = self.models[name]
        if model.phase is ModelPhase.FAILED:
            model.phase, model.why_failed = ModelPhase.ABSENT, ""
        return self.ask(name, now)

    def unload(self, name: str, now: float) -> Orders:
        """Put a model to sleep as soon as its running requests have ended. Not a pinned one."""
        model = self.models[name]
        assert not model.terms.is_pinned, "a pinned model does not leave"
        model.must_leave = model.phase in (ModelPhase.LOADING, ModelPhase.READY)
        return self._schedule(now)

    def loaded(self, name: str, now: float) -> Orders:
        model = self.models[name]
        model.phase, model.last_used, model.last_granted = ModelPhase.READY, now, now
        model.keep_alive = model.terms.keep_alive
        orders = Orders()
        self._grant_waiting(model, orders, now)
        return self.tick(now, orders)

    def stopped(self, name: str, now: float) -> Orders:
        """Its process is gone, and the memory is free."""
        model = self.models[name]
        model.phase, model.must_leave = ModelPhase.ASLEEP, False
        return self._schedule(now)

    def failed(self, name: str, why: str, now: float) -> Orders:
        """It could not be loaded, or not be kept alive; its process is gone."""
        model = self.models[name]
        model.phase, model.must_leave, model.why_failed = ModelPhase.FAILED, False, why
        orders = Orders()
        self._refuse(model, list(model.waiting), TicketOutcome.FAILED, orders)
        return self._schedule(now, orders)

    def tick(self, now: float, orders: Orders | None = None) -> Orders:
        """Time has passed: who waited too long, and who was not used for too long?"""
        orders = orders or Orders()
        for model in self.models.values():
            late = [ticket for ticket in model.waiting if ticket.deadline <= now]
            self._refuse(model, late, TicketOutcome.TIMED_OUT, orders)
        self._schedule(now, orders)
        for model in self.models.values():
            if (at := model.expires_at) is not None and at <= now:
                self._stop(model, orders)
        return orders

    def next_tick(self) -> float | None:
        """When `tick` has something to do, if nothing else happens."""
        moments = [model.expires_at for model in self.models.values()]
        moments += [ticket.deadline for m in self.models.values() for ticket in m.waiting]
        return min((at for at in moments if at is not None), default=None)

    def close(self) -> Orders:
        """No request is taken any more, and nobody waits."""
        self._is_closed = True
        orders = Orders()
        for model in self.models.values():
            self._refuse(model, list(model.waiting), TicketOutcome.CLOSED, orders)
        return orders

    # --- who goes, who comes ---

    def _schedule(self, now: float, orders: Orders | None = None) -> Orders:
        orders = orders or Orders()
        for model in self.models.values():
            model.yields = model.must_leave
        self._wanted = [name for name in self._wanted if self.models[name].waiting]
        for name in list(self._wanted):
            model = self.models[name]
            if model.phase in UNLOADED:
                if not self._make_room(model.terms.num_bytes, orders):
                    break  # nobody overtakes it
                model.phase = ModelPhase.LOADING
                orders.start.append(name)
        for model in self.models.values():
            if model.phase is ModelPhase.READY and not model.yields:
                self._grant_waiting(model, orders, now)
            if model.must_leave and model.is_idle:
                self._stop(model, orders)
        return orders

    def _make_room(self, num_bytes: int, orders: Orders) -> bool:
        """Whether so much is free now. If not, models leave or are to leave, if that is enough."""
        missing = self.num_bytes + num_bytes - self.max_bytes
        if missing <= 0:
            return True
        missing -= sum(
            m.terms.num_bytes for m in self.models.values() if m.phase is ModelPhase.LEAVING
        )
        leaving: list[Resident] = []
        for model in self._by_last_use():
            if missing <= 0:
                break
            leaving.append(model)
            missing -= model.terms.num_bytes
        if missing > 0:
            return False  # one that is loading has to be ready first
        for model in leaving:
            if model.is_idle:
                self._stop(model, orders)
            else:
                model.yields = True
        return False

    def _by_last_use(self) -> list[Resident]:
        """Those that may leave, the least recently used first, those in use last."""
        found = [
            m for m in self.models.values() if m.phase is ModelPhase.READY and not m.terms.is_pinned
        ]
        return sorted(found, key=_disuse)

    def _stop(self, model: Resident, orders: Orders) -> None:
        model.phase = ModelPhase.LEAVING
        orders.stop.append(model.terms.name)

    def _grant(self, model: Resident, ticket: Ticket, now: float) -> None:
        ticket.outcome = TicketOutcome.GRANTED
        model.num_running += 1
        model.last_used = model.last_granted = now

    def _grant_waiting(self, model: Resident, orders: Orders, now: float) -> None:
        for ticket in model.waiting:
            self._grant(model, ticket, now)
            orders.decided.append(ticket)
        model.waiting.clear()

    def _give_way(self, model: Resident, tenant: str, orders: Orders) -> bool:
        """Whether somebody else's last request gives its place up: then both have as many, or the
        other still has more."""
        counts = Counter(ticket.tenant for ticket in model.waiting)
        (largest, most), *_ = counts.most_common(1)
        if most <= counts[tenant] + 1:
            return False
        last = next(ticket for ticket in reversed(model.waiting) if ticket.tenant == largest)
        self._refuse(model, [last], TicketOutcome.QUEUE_FULL, orders)
        return True

    def _refuse(
        self, model: Resident, tickets: list[Ticket], outcome: TicketOutcome, orders: Orders
    ) -> None:
        for ticket in tickets:
            ticket.outcome = outcome
            model.waiting.remove(ticket)
            orders.decided.append(ticket)


def _disuse(model: Resident) -> tuple[bool, float]:
    """Of those in use the end of a request says nothing: which of them is to leave would change
    with it, and none would ever have to."""
    is_busy = model.num_running > 0
    return is_busy, model.last_granted if is_busy else model.last_used
