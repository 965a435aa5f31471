"""The scheduler's decisions, by hand, with a clock that only moves when told."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.toy import make_request, toy_config
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import FinishReason, StepOutput, TokenLogprobs
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import StepPlan


class Driver:
    """A scheduler whose model always says 7, and that the prompt is as likely as can be."""

    def __init__(self, **sizes: object) -> None:
        self.now = 0.0
        config = toy_config(**sizes)
        self.pool = BlockPool(config.num_blocks, config.block_size)
        self.scheduler = Scheduler(config, self.pool, clock=lambda: self.now)

    def add(self, name: str, num_tokens: int = 3, **options: object) -> None:
        defaults: dict[str, Any] = {"max_tokens": 50, "ignore_eos": True}
        prompt = [ord(name[0])] * num_tokens
        self.scheduler.add(make_request(name, prompt, **(defaults | options)))

    def step(self) -> tuple[dict[str, int], list[StepOutput]]:
        """The tokens scheduled for each request, and the outputs."""
        plan = self.scheduler.schedule()
        return scheduled(plan), self.scheduler.update(plan, say_seven(plan))

    def plan(self) -> dict[str, int]:
        return self.step()[0]


def say_seven(plan: StepPlan) -> StepResult:
    return StepResult(
        [
            RowResult(
                token_ids=[7] if row.is_sampled else [],
                prompt_logprobs=[
                    TokenLogprobs(row.sequence.token_ids[position + 1], 0.0, 1, [])
                    for position in range(row.score_start, row.score_end)
                ],
            )
            for row in plan.rows
        ]
    )


def scheduled(plan: StepPlan) -> dict[str, int]:
    return {row.sequence.request.request_id: row.num_scheduled_tokens for row in plan.rows}


def test_a_long_prompt_is_cut_and_never_stalls_what_decodes() -> None:
    driver = Driver(max_num_batched_tokens=16)
    driver.add("a")
    driver.add("b")
    assert driver.plan() == {"a": 3, "b": 3}
    driver.add("long", 40)
    assert driver.plan() == {"a": 1, "b": 1, "long": 14}
    assert driver.plan() == {"a": 1, "b": 1, "long": 14}
    assert driver.plan() == {"a": 1, "b": 1, "long": 12}
    assert driver.plan() == {"a": 1, "b": 1, "long": 1}


def test_an_older_long_prompt_leaves_a_token_for_each_that_is_running() -> None:
    """What comes back after a preemption has its old place, before others that already decode."""
    driver = Driver(max_num_batched_tokens=8, max_num_seqs=4)
    driver.add("x", priority=1)
    driver.add("y", priority=1)
    assert driver.plan() == {"x": 3, "y": 3}
    driver.add("first", 30, priority=0)
    assert driver.plan() == {"x": 1, "y": 1, "first": 6}
    assert driver.plan() == {"first": 6, "x": 1, "y": 1}


def test_rows_are_limited() -> None:
    driver = Driver(max_num_seqs=2)
    for name in "abc":
        driver.add(name, max_tokens=2)
    assert driver.plan() == {"a": 3, "b": 3}
    assert driver.plan() == {"a": 1, "b": 1}
    assert driver.plan() == {"c": 3}


def test_priority_then_arrival() -> None:
    driver = Driver(max_num_seqs=1)
    for name, priority in (("a", 1), ("b", 0), ("c", 1), ("d", 0)):
        driver.add(name, priority=priority, max_tokens=1)
    assert [list(driver.plan()) for _ in range(4)] == [["b"], ["d"], ["a"], ["c"]]


def test_the_last_is_preempted_and_comes_back_to_its_blocks() -> None:
    driver = Driver(num_blocks=8, max_model_len=32, max_num_seqs=2)  # 32 tokens of KV
    driver.add("a", 8, max_tokens=11)
    driver.add("b", 8)
    driver.plan()
    seen: list[dict[str, int]] = []
    while driver.scheduler.stats().preemptions_total == 0:
        seen.append(driver.plan())
    assert seen[-1] == {"a": 1}
    assert [list(plan) for plan in seen[:-1]] == [["a", "b"]] * (len(seen) - 1)
    while "b" not in (plan := driver.plan()):
        pass
    assert plan == {"b": 17 - 12}, "three of its four blocks are still there"
    driver.scheduler.check_integrity()


def test_a_prompt_that_is_preempted_half_scored_is_scored_once() -> None:
    driver = Driver(num_blocks=8, max_model_len=32, max_num_seqs=2, max_num_batched_tokens=2)
    driver.add("a", 8, max_tokens=20)
    driver.add("long", 16, prompt_logprobs=0)
    outputs: list[StepOutput] = []
    while driver.scheduler.has_work:
        outputs += [o for o in driver.step()[1] if o.request_id == "long"]
    assert outputs[-1].timings is not None
    assert outputs[-1].timings.num_preemptions == 1
    assert outputs[0].prompt_logprobs is not None
    assert [entry.token_id for entry in outputs[0].prompt_logprobs] == [ord("l")] * 15


def test_no_thrash_one_spare_block_for_each_that_runs() -> None:
    """What is let in must not be thrown out by the next block that another one needs."""
    driver = Driver(num_blocks=8, max_model_len=32)
    driver.add("a", 16)  # 5 blocks with its answer
    driver.plan()
    driver.add("b", 12)  # the 3 blocks that are left
    assert driver.plan() == {"a": 1}
    assert driver.scheduler.stats().num_requests_waiting == 1


def test_the_largest_request_always_fits() -> None:
    driver = Driver(num_blocks=8, max_model_len=32)
    driver.add("a", 30)
    driver.add("whole", 32, max_tokens=9)
    driver.add("c", 31)
    ends: list[str] = []
    while driver.scheduler.has_work:
        ends += [o.request_id for o in driver.step()[1] if o.finish_reason]
    assert ends == ["a", "whole", "c"]


def test_failed_steps_and_aborts_give_everything_back() -> None:
    driver = Driver()
    for name in "abc":
        driver.add(name, 20)
    plan = driver.scheduler.schedule()
    outputs = driver.scheduler.fail(plan, "why")
    assert {(o.request_id, o.finish_reason, o.error) for o in outputs} == {
        (name, FinishReason.ERROR, "why") for name in "abc"
    }
    driver.add("d", 20)
    driver.scheduler.schedule()
    driver.add("e", 20)
    assert {o.request_id for o in driver.scheduler.abort_all()} == {"d", "e"}
    assert driver.scheduler.abort("d") is None
    assert driver.pool.num_free == driver.pool.num_blocks
    assert driver.scheduler.schedule().rows == []


def test_timings_say_where_the_time_went() -> None:
    driver = Driver(max_num_batched_tokens=4, max_num_seqs=1)
    driver.add("a", 8, max_tokens=3)
    last: StepOutput | None = None
    for _ in range(4):
        driver.now += 1.0
        last = next(iter(driver.step()[1]), None)
    assert last is not None
    timings = last.timings
    assert timings is not None
    assert (timings.queue_ms, timings.prefill_ms, timings.decode_ms) == (1000, 1000, 2000)
    assert (timings.total_ms, timings.num_steps, timings.num_preemptions) == (4000, 4, 0)
    assert (timings.itl_max_ms, timings.batch_mean, timings.batch_max) == (1000, 1, 1)


def test_timings_count_the_company() -> None:
    """`batch_*` is about the requests in the same steps; the longest gap is the stall it felt."""
    driver = Driver(max_num_batched_tokens=4, max_num_seqs=2)
    driver.add("a", 2, max_tokens=4)
    last: dict[str, StepOutput] = {}
    for step, seconds in enumerate((1.0, 1.0, 5.0, 1.0, 1.0)):
        driver.now += seconds
        last |= {output.request_id: output for output in driver.step()[1]}
        if step == 0:
            driver.add("b", 3, max_tokens=2)
    timings = last["a"].timings
    assert timings is not None
    assert (timings.itl_max_ms, timings.batch_mean, timings.batch_max) == (5000, 1.5, 2)


def test_stats_count() -> None:
    driver = Driver()
    driver.add("a", 9, max_tokens=2)
    driver.plan()
    stats = driver.scheduler.stats()
    assert (stats.num_requests_running, stats.num_requests_waiting) == (1, 0)
    assert (stats.num_blocks_used, stats.prompt_tokens_total) == (3, 9)
    driver.plan()
    driver.add("a", 9, max_tokens=1)
    driver.plan()
    stats = driver.scheduler.stats()
    assert (stats.generation_tokens_total, stats.steps_total) == (3, 3)
    assert (stats.prefix_cache_queries_total, stats.prefix_cache_hits_total) == (18, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_num_seqs": 65}, "'max_num_seqs' \\(65\\)"),
        ({"num_blocks": 31}, "124 tokens, fewer than 'max_model_len' \\(128\\)"),
    ],
)
def test_settings_that_could_deadlock_are_refused(change: dict[str, object], words: str) -> None:
    make: Callable[..., EngineConfig] = toy_config
    with pytest.raises(ValueError, match=words):
        make(**change)
