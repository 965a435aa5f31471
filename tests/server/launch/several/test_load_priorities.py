"""A load comes behind while another model is asked, not longer, and never after it; in virtual
time, against a clock's ticks that are counted one by one."""

import asyncio
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.oracles.virtual_time import run
from thirdeye.server.launch.several.giving_way import Priority
from thirdeye.server.launch.several.load_priorities import LoadPriorities
from thirdeye.server.launch.several.load_rule import HOLD, IDLE_SECONDS

TICK = 0.25  # seconds; HOLD and IDLE_SECONDS are whole ones
NORMAL, LOW, IDLE = Priority.NORMAL, Priority.LOW, Priority.IDLE


@dataclass
class Process:
    pid: int
    returncode: int | None = None


@dataclass
class Machine:
    """Its processes, and the priority of each that has not been waited for."""

    processes: list[Process] = field(default_factory=list)
    priorities: dict[int, Priority] = field(default_factory=dict)

    def start(self) -> Process:
        self.processes.append(Process(len(self.processes)))
        self.priorities[self.processes[-1].pid] = NORMAL
        return self.processes[-1]

    def set_priority(self, pid: int, priority: Priority) -> None:
        assert self.processes[pid].returncode is None, "the number is somebody else's"
        assert self.priorities[pid] is not priority, "for nothing"
        self.priorities[pid] = priority


def test_a_load_beside_an_idle_model_computes_as_everybody() -> None:
    async def main() -> None:
        machine = Machine()
        loads, process = LoadPriorities(machine.set_priority), machine.start()
        now = asyncio.get_running_loop().time
        loads.tell([], now())
        with loads.loading("a", process):
            seen = [machine.priorities[0]]
            for asked in (["a"], ["a", "b"], ["b"], []):
                loads.tell(asked, now())
                seen.append(machine.priorities[0])
            await asyncio.sleep(0.9 * HOLD)
            seen.append(machine.priorities[0])
            await asyncio.sleep(0.2 * HOLD)
            seen.append(machine.priorities[0])
        assert seen == [NORMAL, NORMAL, IDLE, IDLE, IDLE, IDLE, NORMAL]
        assert not loads.are_others_asked("a")

    run(main())


def test_beside_one_that_is_asked_for_ever_it_ends_all_the_same() -> None:
    async def main() -> None:
        machine = Machine()
        loads, process = LoadPriorities(machine.set_priority), machine.start()
        loads.tell(["b"], asyncio.get_running_loop().time())
        assert loads.are_others_asked("a")
        with loads.loading("a", process):
            await asyncio.sleep(IDLE_SECONDS - 0.1)
            assert machine.priorities[0] is IDLE
            await asyncio.sleep(0.2)
            assert machine.priorities[0] is LOW
        assert machine.priorities[0] is NORMAL

    run(main())


class TicksOfOneLoad:
    """The rule again, tick by tick."""

    def __init__(self) -> None:
        self.hold, self.idle = 0, round(IDLE_SECONDS / TICK)

    def is_told(self, *, is_asked: bool) -> None:
        """At the same moment as before, too."""
        if is_asked:
            self.hold = round(HOLD / TICK)

    def expected(self, *, is_asked: bool) -> Priority:
        """In the tick that begins."""
        self.is_told(is_asked=is_asked)
        if self.hold and not is_asked:
            self.hold -= 1
            is_asked = True
        if not is_asked:
            return NORMAL
        self.idle -= 1
        return IDLE if self.idle >= 0 else LOW


EVENTS = st.sampled_from(["ask a", "ask b", "leave a", "leave b", "load a", "load b", "die", ""])


@draws(40, 1000)
@given(st.lists(st.tuples(EVENTS, st.sampled_from([0, 1, 1, 2, 3, 90])), max_size=30))
def test_whatever_happens_when(events: list[tuple[str, int]]) -> None:
    """Models are asked and left, loads begin, end and die, in any order."""

    async def main() -> None:
        machine = Machine()
        loads, now = LoadPriorities(machine.set_priority), asyncio.get_running_loop().time
        asked: set[str] = set()
        under_way: dict[str, tuple[ExitStack, Process, TicksOfOneLoad]] = {}

        def tell_oracles() -> None:
            for model, (_, _, rule) in under_way.items():
                rule.is_told(is_asked=bool(asked - {model}))

        def happen(event: str) -> None:
            what, _, model = event.partition(" ")
            if what == "ask":
                asked.add(model)
            if what == "leave":
                asked.discard(model)
            loads.tell(asked, now())
            tell_oracles()
            if what == "die":
                for _, process, _ in under_way.values():
                    process.returncode = -9
            if what != "load":
                return
            if model in under_way:
                under_way.pop(model)[0].close()
            else:
                end, process = ExitStack(), machine.start()
                end.enter_context(loads.loading(model, process))
                under_way[model] = end, process, TicksOfOneLoad()
            tell_oracles()

        async def tick() -> None:
            await asyncio.sleep(TICK / 2)
            for model, (_, process, rule) in under_way.items():
                expected = rule.expected(is_asked=bool(asked - {model}))
                if process.returncode is None:
                    assert machine.priorities[process.pid] is expected
            await asyncio.sleep(TICK / 2)

        for event, ticks in events:
            happen(event)
            for _ in range(ticks):
                await tick()
        for end, _, _ in under_way.values():
            with suppress(KeyError), end:
                raise KeyError("the load fails")
        living = [one.pid for one in machine.processes if one.returncode is None]
        assert all(machine.priorities[pid] is NORMAL for pid in living)
        await asyncio.sleep(100)  # nothing rings any more, for whoever has the number now

    run(main())
