"""Time limits: who is late ends with a reason, and nothing is computed for whoever has gone."""

import random

import pytest

from tests.engine.scheduling.test_scheduler import Driver, say_seven
from tests.engine.toy import drain, make_request, toy_config
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.step_result import StepResult
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason, StepOutput
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import StepPlan


class CountingRunner:
    """Says 7, and remembers for whom it computed how many tokens."""

    def __init__(self) -> None:
        self.computed: dict[str, int] = {}

    def run(self, plan: StepPlan) -> StepResult:
        for row in plan.rows:
            name = row.sequence.request.request_id
            self.computed[name] = self.computed.get(name, 0) + row.num_scheduled_tokens
        return say_seven(plan)


def test_who_waits_too_long_is_told_so_and_nothing_was_computed() -> None:
    driver = Driver(max_num_seqs=1, queue_timeout=30.0)
    driver.add("runs")
    driver.plan()
    driver.now = 10.0
    driver.add("waits")
    driver.now = 39.9
    assert driver.scheduler.expire() == []
    driver.now = 40.0
    (output,) = driver.scheduler.expire()
    assert (output.request_id, output.finish_reason) == ("waits", FinishReason.ERROR)
    assert output.error_code is ErrorCode.QUEUE_TIMEOUT
    assert "30 s; nothing was computed" in (output.error or "")
    assert output.timings is not None
    assert (output.timings.queue_ms, output.timings.num_steps) == (30_000, 0)
    assert driver.scheduler.stats().queue_timeouts_total == 1
    assert driver.plan() == {"runs": 1}, "who runs has its own time"


def test_waiting_again_after_a_preemption_is_not_queueing() -> None:
    driver = Driver(num_blocks=8, max_model_len=32, max_num_seqs=2, queue_timeout=5.0)
    driver.add("a", 8, max_tokens=14)
    driver.add("b", 8)
    while driver.scheduler.stats().preemptions_total == 0:
        driver.plan()
    driver.now = 100.0
    assert driver.scheduler.expire() == []
    assert driver.scheduler.stats().num_requests_waiting == 1


@pytest.mark.parametrize("max_num_seqs", [1, 2])
def test_the_whole_request_has_a_limit_running_or_not(max_num_seqs: int) -> None:
    driver = Driver(max_num_seqs=max_num_seqs, request_timeout=60.0)
    driver.add("a")
    driver.add("b")
    driver.plan()
    driver.now = 60.0
    outputs = driver.scheduler.expire()
    assert {(o.request_id, o.error_code) for o in outputs} == {
        ("a", ErrorCode.REQUEST_TIMEOUT),
        ("b", ErrorCode.REQUEST_TIMEOUT),
    }
    assert driver.pool.num_free == driver.pool.num_blocks
    assert not driver.scheduler.has_work


def test_500_that_leave_or_are_late_before_their_turn_cost_nothing() -> None:
    """Half of the clients leave, half wait past the limit, in random order: 0 are prefilled."""
    now = 0.0
    config = toy_config(max_num_seqs=1, queue_timeout=30.0)
    runner = CountingRunner()
    pool = BlockPool(config.num_blocks, config.block_size)
    core = EngineCore(config, runner, Scheduler(config, pool, clock=lambda: now))
    core.add(make_request("runs", max_tokens=100, ignore_eos=True))
    core.step()
    names = [f"r{i}" for i in range(500)]
    for name in names:
        core.add(make_request(name, [9] * 20))
    chance = random.Random(1)
    gone = set(chance.sample(names, 250))
    outputs: list[StepOutput] = []
    for name in gone:
        core.abort(name)
        if chance.random() < 0.1:
            outputs += core.step()
    now = 31.0
    for of_one in drain(core).values():
        outputs += of_one
    ends = {o.request_id: o for o in outputs if o.finish_reason is not None}
    assert set(ends) == {"runs", *names}
    assert {n for n in names if ends[n].finish_reason is FinishReason.ABORT} == gone
    late = {n for n in names if ends[n].error_code is ErrorCode.QUEUE_TIMEOUT}
    assert late == set(names) - gone
    assert set(runner.computed) == {"runs"}
