"""A prefix leaves its replica only where that, asked, has too much to do."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from tests.oracles import virtual_time
from thirdeye.server.cluster.picking.affinity_key import affinity_key
from thirdeye.server.cluster.picking.asking_picker import ASK_SECONDS, Ask, AskingPicker
from thirdeye.server.cluster.picking.picker import Picker, Report

NAMES = ["a", "b"]


class Replicas:
    """Two whose reports never come by themselves; `running` is what is true of them."""

    def __init__(self, say: Callable[[], object] = lambda: None) -> None:
        self.now, self.num_asked = 0.0, 0
        self.running = dict.fromkeys(NAMES, 0)
        self.picker = AskingPicker(Picker(idle_below=8))
        self._say = say
        self.report()

    def report(self) -> None:
        reports = {name: Report(self.running[name], self.now) for name in NAMES}
        self.picker.update(reports, {name: partial(self._ask, name) for name in NAMES})

    async def _ask(self, name: str) -> Report:
        self.num_asked += 1
        await asyncio.sleep(0.01)
        self._say()
        return Report(self.running[name], self.now)

    async def pick(self, key: bytes) -> str:
        self.now += 1
        picked = await self.picker.pick(key, self.now)
        assert picked is not None
        return picked


def key_of(i: int) -> bytes:
    found = affinity_key({}, f"session {i}")
    assert found is not None
    return found


def test_short_requests_stay_with_their_prefix_however_late_reports_are() -> None:
    """Each has ended before the next: 600 turns of 6 conversations, without a report of Ray's."""

    async def main() -> None:
        replicas = Replicas()
        homes = [await replicas.pick(key_of(i)) for i in range(6)]
        for _ in range(100):
            assert [await replicas.pick(key_of(i)) for i in range(6)] == homes
        assert replicas.num_asked < 200  # not for each

    virtual_time.run(main())


def test_who_has_too_much_to_do_is_relieved() -> None:
    async def main() -> None:
        replicas = Replicas()
        home = await replicas.pick(b"hot")
        other = next(name for name in NAMES if name != home)
        replicas.running = {home: 20, other: 2}
        replicas.now += 1
        replicas.report()
        assert await replicas.pick(b"hot") == other  # nothing was sent since: no need to ask
        assert replicas.num_asked == 0

    virtual_time.run(main())


def test_all_who_wait_share_one_question() -> None:
    async def main() -> list[str]:
        replicas = Replicas()
        for _ in range(8):
            await replicas.pick(b"hot")
        picked = await asyncio.gather(*(replicas.pick(b"hot") for _ in range(8)))
        assert replicas.num_asked == 1
        return picked

    assert len(set(virtual_time.run(main()))) == 1


def test_what_a_late_report_tells_of_may_have_ended() -> None:
    """Nothing was sent since, and it is ten seconds old."""

    async def main() -> None:
        replicas = Replicas()
        home = await replicas.pick(b"mine")
        replicas.running = {home: 20}
        replicas.running |= {name: 0 for name in NAMES if name != home}
        replicas.now += 1
        replicas.report()
        replicas.running[home] = 0
        replicas.now += 10
        assert await replicas.pick(b"mine") == home
        assert replicas.num_asked == 1  # the other is known to have nothing to do

    virtual_time.run(main())


class BusyMachine:
    """Replicas that answer all within a third of a second, and say so late: who is asked after
    `answers_after` seconds, and of itself every ten, of what was ten seconds before."""

    def __init__(self, number: int, answers_after: float) -> None:
        self.running = {f"replica {i}": 0 for i in range(number)}
        self.picker = AskingPicker(Picker(idle_below=8))
        self._answers_after = answers_after
        self.picker.update(self._reports(), self._asks())

    def _reports(self) -> dict[str, Report]:
        now = asyncio.get_running_loop().time()
        return {name: Report(running, now) for name, running in self.running.items()}

    def _asks(self) -> dict[str, Ask]:
        return {name: partial(self._ask, name) for name in self.running}

    async def _ask(self, name: str) -> Report:
        await asyncio.sleep(self._answers_after)
        return self._reports()[name]

    async def report(self) -> None:
        while True:
            reports = self._reports()
            await asyncio.sleep(10)
            self.picker.update(reports, self._asks())

    async def client(self, sessions: list[int], went: dict[int, list[str]]) -> None:
        for session in sessions:
            now = asyncio.get_running_loop().time()
            picked = await self.picker.pick(key_of(session), now)
            assert picked is not None
            went[session].append(picked)
            self.running[picked] += 1
            await asyncio.sleep(0.3)
            self.running[picked] -= 1


@pytest.mark.parametrize("num_clients", [1, 4])
@pytest.mark.parametrize(("number", "num_sessions"), [(2, 1), (4, 40)])
@pytest.mark.parametrize("answers_after", [0.01, 2.5])
def test_on_a_busy_machine_sessions_stay_where_they_are(
    num_clients: int, number: int, num_sessions: int, answers_after: float
) -> None:
    """A few under way at once, and no replica has more to do than it can."""
    went: dict[int, list[str]] = {session: [] for session in range(num_sessions)}

    async def main() -> None:
        machine = BusyMachine(number, answers_after)
        reporting = asyncio.create_task(machine.report())
        turns = list(range(num_sessions)) * (400 // num_sessions)
        await asyncio.gather(
            *(machine.client(turns[i::num_clients], went) for i in range(num_clients))
        )
        reporting.cancel()

    virtual_time.run(main())
    assert all(len(set(names)) == 1 for names in went.values())


def test_an_answer_that_comes_too_late_counts_for_those_that_come_after_it() -> None:
    async def main() -> None:
        machine = BusyMachine(2, answers_after=2 * ASK_SECONDS)
        went: dict[int, list[str]] = {0: []}
        while len(set(went[0])) < 2:
            await machine.client([0], went)
        await asyncio.sleep(ASK_SECONDS)  # then the answer has come
        await machine.client([0] * 8, went)
        assert set(went[0][-8:]) == {went[0][0]}

    virtual_time.run(main())


def failing() -> None:
    raise ConnectionError("gone")


async def never() -> Report:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("is_silent", [False, True])
def test_who_does_not_answer_is_judged_by_what_is_known_until_it_reports(is_silent: bool) -> None:
    async def main() -> None:
        replicas = Replicas(failing)
        if is_silent:
            asks = dict.fromkeys(NAMES, never)
            replicas.picker.update({name: Report(0, 0.0) for name in NAMES}, asks)
        picked = [await replicas.pick(b"hot") for _ in range(16)]
        assert set(picked) == set(NAMES)
        asked = replicas.num_asked
        assert asked <= 2
        for _ in range(16):
            await replicas.pick(b"hot")
        assert replicas.num_asked == asked
        replicas.report()
        for _ in range(16):
            await replicas.pick(b"hot")
        assert replicas.num_asked > asked

    virtual_time.run(main())


def test_a_replica_that_goes_while_it_is_asked_gets_nothing() -> None:
    async def main() -> None:
        replicas = Replicas()
        home = await replicas.pick(b"hot")
        for _ in range(7):
            await replicas.pick(b"hot")
        asking = asyncio.create_task(replicas.pick(b"hot"))
        await asyncio.sleep(0)
        left = next(name for name in NAMES if name != home)
        replicas.picker.update({left: Report()}, {})
        assert await asking == left

    virtual_time.run(main())
