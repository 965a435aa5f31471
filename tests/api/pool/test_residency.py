"""Models in memory under any order of events: books kept from outside, and a fair end."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thirdeye.server.api.pool.model_terms import (
    DoesNotFit,
    ModelPhase,
    ModelTerms,
    Ticket,
    TicketOutcome,
)
from thirdeye.server.api.pool.residency import Orders, Residency

MAX_WAITING, MAX_WAIT = 3, 50.0
NAMES = ("a", "b", "c", "d")


class AnyOrder(RuleBasedStateMachine):
    """Engines are sets of names, the clock is a number, and nothing is believed: memory and running
    requests are counted here, from the orders and outcomes alone."""

    @initialize(
        sizes=st.tuples(*[st.integers(1, 4)] * len(NAMES)),
        pinned=st.integers(0, 1),
        keep_alive=st.sampled_from([-1.0, 0.0, 5.0, 100.0]),
        slack=st.integers(0, 4),
    )
    def begin(self, sizes: tuple[int, ...], pinned: int, keep_alive: float, slack: int) -> None:
        self.terms = {
            name: ModelTerms(name, size, is_pinned=i < pinned, keep_alive=keep_alive)
            for i, (name, size) in enumerate(zip(NAMES, sizes, strict=True))
        }
        bound = sum(sizes[:pinned]) + max(sizes[pinned:]) + slack
        self.machine = Residency(
            [*self.terms.values()], bound, max_waiting=MAX_WAITING, max_wait=MAX_WAIT
        )
        self.now = 0.0
        self.starting: list[str] = []
        self.up: set[str] = set()
        self.stopping: list[str] = []
        self.running: Counter[str] = Counter()
        self.waiting: list[Ticket] = []
        self.outcomes: Counter[int] = Counter()  # of each ticket
        self.tickets: list[Ticket] = []

    # --- what the orders do ---

    def follow(self, orders: Orders) -> None:
        for ticket in orders.decided:
            self.decide(ticket)
        for name in orders.stop:
            assert name in self.up, f"{name} is not there to be stopped"
            assert not self.running[name], f"{name} is stopped while it works"
            assert not self.terms[name].is_pinned
            self.up.remove(name)
            self.stopping.append(name)
        for name in orders.start:
            assert name not in self.up
            assert name not in (*self.starting, *self.stopping)
            self.starting.append(name)

    def decide(self, ticket: Ticket) -> None:
        assert ticket.outcome is not None
        self.outcomes[id(ticket)] += 1
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        if ticket.outcome is TicketOutcome.GRANTED:
            assert ticket.model in self.up, "granted a model that is not loaded"
            self.running[ticket.model] += 1
        if ticket.outcome is TicketOutcome.TIMED_OUT:
            assert ticket.deadline <= self.now

    # --- what may happen ---

    @rule(name=st.sampled_from(NAMES), tenant=st.sampled_from(["", "", "x", "y"]))
    def ask(self, name: str, tenant: str = "") -> None:
        ahead = Counter(ticket.tenant for ticket in self.waiting if ticket.model == name)
        is_full, most = ahead.total() == MAX_WAITING, max(ahead.values(), default=0)
        ticket, orders = self.machine.ask(name, self.now, tenant)
        self.tickets.append(ticket)
        gave_way = [one for one in orders.decided if one.outcome is TicketOutcome.QUEUE_FULL]
        if ticket.outcome is None:
            assert is_full == bool(gave_way)
            self.waiting.append(ticket)
        elif ticket not in orders.decided:
            self.decide(ticket)
        if ticket.outcome is TicketOutcome.QUEUE_FULL:
            assert is_full
            assert ahead[tenant] + 1 >= most, "somebody else has two more"
        for one in gave_way:
            assert ahead[one.tenant] == most > ahead[tenant] + 1
        self.follow(orders)

    @rule(name=st.sampled_from(NAMES))
    def use(self, name: str) -> None:
        """A request, and engines that do their part."""
        self.ask(name)
        self.engines_do_their_part()

    @precondition(lambda self: self.running.total())
    @rule(data=st.data(), keep_alive=st.sampled_from([None, None, -1.0, 0.0, 3.0]))
    def release(self, data: st.DataObject, keep_alive: float | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.running.elements())))
        self.running[name] -= 1
        self.follow(self.machine.release(name, self.now, keep_alive))

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), is_well=st.sampled_from([True, True, True, False]))
    def end_loading(self, data: st.DataObject, is_well: bool) -> None:
        name = data.draw(st.sampled_from(self.starting))
        self.starting.remove(name)
        if is_well:
            self.up.add(name)
            self.follow(self.machine.loaded(name, self.now))
            assert all(ticket.model != name for ticket in self.waiting), "loaded, and kept waiting"
        else:
            self.follow(self.machine.failed(name, "no", self.now))

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def end_stopping(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.stopping))
        self.stopping.remove(name)
        self.follow(self.machine.stopped(name, self.now))

    @precondition(lambda self: self.up)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.up)))
        self.up.remove(name)
        self.follow(self.machine.failed(name, "crashed", self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(ticket)
        self.outcomes[id(ticket)] += 1  # that it left
        self.follow(self.machine.leave(ticket, self.now))

    @rule(seconds=st.sampled_from([0.5, 4.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.follow(self.machine.tick(self.now))
        later = self.machine.next_tick()
        assert later is None or later > self.now, "a clock that rings at once, for ever"
        assert all(ticket.deadline > self.now for ticket in self.waiting)

    @rule(name=st.sampled_from(NAMES))
    def unload(self, name: str) -> None:
        if not self.terms[name].is_pinned:
            self.follow(self.machine.unload(name, self.now))

    @rule(name=st.sampled_from(NAMES))
    def reload(self, name: str) -> None:
        ticket, orders = self.machine.reload(name, self.now)
        self.tickets.append(ticket)
        assert ticket.outcome is not TicketOutcome.FAILED
        if ticket.outcome is None:
            self.waiting.append(ticket)
        elif ticket not in orders.decided:
            self.decide(ticket)
        self.follow(orders)

    def engines_do_their_part(self) -> None:
        while self.starting or self.stopping:
            for name in list(self.starting):
                self.starting.remove(name)
                self.up.add(name)
                self.follow(self.machine.loaded(name, self.now))
            for name in list(self.stopping):
                self.stopping.remove(name)
                self.follow(self.machine.stopped(name, self.now))

    # --- what holds at any time ---

    @invariant()
    def memory_is_never_above_the_bound(self) -> None:
        if hasattr(self, "machine"):
            held = (*self.starting, *self.up, *self.stopping)
            used = sum(self.terms[name].num_bytes for name in held)
            assert used <= self.machine.max_bytes
            assert used == self.machine.num_bytes

    @invariant()
    def each_ticket_has_one_outcome_at_most(self) -> None:
        if hasattr(self, "machine"):
            assert all(count == 1 for count in self.outcomes.values())
            decided = [ticket for ticket in self.tickets if ticket.outcome is not None]
            assert all(self.outcomes[id(ticket)] == 1 for ticket in decided)

    def teardown(self) -> None:
        """With engines that do their part and requests that end, all who wait are served, in no
        time at all."""
        if not hasattr(self, "machine"):
            return
        for _ in range(60):
            if not self.waiting:
                break
            self.engines_do_their_part()
            for name in list(self.running.elements()):
                self.running[name] -= 1
                self.follow(self.machine.release(name, self.now))
        assert not self.waiting, "waits for ever"
        ended = self.machine.close()
        assert ended == Orders()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestManyOrders(AnyOrder.TestCase):
    settings = settings(max_examples=3000, stateful_step_count=60, deadline=None)
    pytestmark = pytest.mark.prove


def residency(*sizes: int, bound: int, **terms: float) -> Residency:
    models = [
        ModelTerms(name, size, **terms)  # type: ignore[arg-type]  # keep_alive
        for name, size in zip(NAMES, sizes, strict=False)
    ]
    return Residency(models, bound, max_waiting=2, max_wait=10)


def load(machine: Residency, name: str, now: float = 0.0) -> None:
    _, orders = machine.ask(name, now)
    assert orders.start == [name]
    machine.loaded(name, now)


def test_the_least_recently_used_leaves_and_no_more_than_needed() -> None:
    machine = residency(2, 1, 1, bound=3)
    load(machine, "a", 0)
    load(machine, "b", 1)
    machine.release("b", 2)
    machine.release("a", 3)
    _, orders = machine.ask("c", 4)
    assert (orders.stop, orders.start) == (["b"], [])
    assert machine.stopped("b", 5).start == ["c"]


def test_a_busy_model_takes_no_more_until_the_one_that_waits_had_its_turn() -> None:
    machine = residency(1, 1, bound=1)
    load(machine, "a")
    other, orders = machine.ask("b", 1)
    assert orders == Orders()
    again, orders = machine.ask("a", 2)  # behind b, though its model is there
    assert (again.outcome, orders) == (None, Orders())
    assert machine.release("a", 3).stop == ["a"]
    assert machine.stopped("a", 4).start == ["b"]
    assert machine.loaded("b", 5).decided == [other]
    assert machine.release("b", 6).stop == ["b"]
    assert machine.stopped("b", 7).start == ["a"]
    assert machine.loaded("a", 8).decided == [again]


def test_whom_it_was_for_has_gone_so_it_goes_on() -> None:
    machine = residency(1, 1, bound=1)
    load(machine, "a")
    other, _ = machine.ask("b", 1)
    again, _ = machine.ask("a", 2)
    assert machine.leave(other, 3).decided == [again]
    assert again.outcome is TicketOutcome.GRANTED


def test_ends_of_requests_do_not_change_who_has_to_leave() -> None:
    """Else two busy models would take turns, and the third would wait for ever."""
    machine = residency(1, 1, 1, bound=2)
    load(machine, "a", 0)
    machine.ask("a", 1)
    load(machine, "b", 2)
    machine.ask("c", 3)
    machine.release("a", 4)
    assert machine.ask("a", 5)[0].outcome is None
    assert machine.ask("b", 6)[0].outcome is TicketOutcome.GRANTED


def test_it_falls_asleep_after_what_the_last_request_asked_for() -> None:
    machine = residency(1, bound=1, keep_alive=30)
    load(machine, "a")
    machine.release("a", 10)
    assert machine.next_tick() == 40
    machine.ask("a", 20)
    assert machine.next_tick() is None
    machine.release("a", 21, keep_alive=100)
    assert machine.tick(120) == Orders()
    assert machine.tick(121).stop == ["a"]
    machine.stopped("a", 122)
    load(machine, "a", 130)
    assert machine.release("a", 131, keep_alive=0).stop == ["a"]


def test_one_tenant_does_not_keep_all_places_to_wait() -> None:
    """It may have them while nobody else wants one; then the last to come gives way."""
    machine = residency(1, bound=1)
    first = [machine.ask("a", 0, "x")[0] for _ in range(2)]
    assert machine.ask("a", 1, "x")[0].outcome is TicketOutcome.QUEUE_FULL
    other, orders = machine.ask("a", 2, "y")
    assert other.outcome is None
    assert orders.decided == [first[-1]]
    assert first[-1].outcome is TicketOutcome.QUEUE_FULL
    assert machine.ask("a", 3, "x")[0].outcome is TicketOutcome.QUEUE_FULL
    assert machine.ask("a", 3, "y")[0].outcome is TicketOutcome.QUEUE_FULL, "each has one"


def test_who_waits_too_long_is_told_and_the_load_goes_on() -> None:
    machine = residency(1, bound=1)
    ticket, _ = machine.ask("a", 0)
    assert machine.next_tick() == 10
    assert machine.tick(10).decided == [ticket]
    assert ticket.outcome is TicketOutcome.TIMED_OUT
    machine.loaded("a", 11)
    assert machine.models["a"].phase is ModelPhase.READY


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([ModelTerms("a", 3 << 30)], "a takes 3.00 GiB, 2.00 are allowed"),
        (
            [ModelTerms("a", 1 << 30, is_pinned=True), ModelTerms("b", 3 << 29)],
            "b takes 1.50 GiB beside 1.00 of pinned models",
        ),
        (
            [ModelTerms(name, 3 << 29, is_pinned=True) for name in "ab"],
            "the pinned models take 3.00 GiB",
        ),
    ],
)
def test_what_can_never_fit_is_said_before(terms: list[ModelTerms], words: str) -> None:
    with pytest.raises(DoesNotFit, match=words):
        Residency(terms, 2 << 30, max_waiting=1, max_wait=1)
