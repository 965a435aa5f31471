"""Who is next: tenants share, keys queue, and a step's budget is split; by hand, step by step."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.scheduling.test_scheduler import Driver
from tests.engine.toy import make_request
from thirdeye.server.engine.interface.engine_config import Admission, default_batched_tokens
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.token_budget import TokenBudget


def test_a_flood_of_one_tenant_does_not_delay_another() -> None:
    """Twenty requests of `a` wait; the one that `b` sends then is the next to be let in."""
    driver = Driver(max_num_seqs=1)
    for i in range(20):
        driver.add(f"a{i}", tenant="a", max_tokens=2)
    driver.plan()
    driver.add("b", tenant="b", max_tokens=2)
    assert [list(driver.plan()) for _ in range(3)] == [["a0"], ["b"], ["b"]]
    assert list(driver.plan()) == ["a1"], "first come, first served within a tenant"


def test_shares_are_of_tokens_not_of_requests() -> None:
    """`a` sends prompts of 30 tokens, `b` of 10: b gets three requests for each of a's."""
    driver = Driver(max_num_seqs=1, max_model_len=64)
    for i in range(12):
        driver.add(f"a{i}", 30, tenant="a", max_tokens=1, cache_salt=f"a{i}")
        driver.add(f"b{i}", 10, tenant="b", max_tokens=1, cache_salt=f"b{i}")
    served = Counter(name[0] for _ in range(12) for name in driver.plan())
    assert served == {"a": 3, "b": 9}


def test_newcomers_of_one_step_are_shared_too() -> None:
    """Several rows are free at once: they do not all go to the tenant that came first."""
    driver = Driver(max_num_seqs=4)
    for i in range(4):
        driver.add(f"a{i}", tenant="a")
    for i in range(4):
        driver.add(f"b{i}", tenant="b")
    assert list(driver.plan()) == ["a0", "b0", "a1", "b1"]


def test_idling_earns_nothing() -> None:
    """A tenant that comes late does not get all that it did not use before."""
    driver = Driver(max_num_seqs=1)
    for i in range(20):
        driver.add(f"a{i}", tenant="a", max_tokens=1, cache_salt=f"a{i}")
    for _ in range(6):
        driver.plan()
    for i in range(6):
        driver.add(f"b{i}", tenant="b", max_tokens=1, cache_salt=f"b{i}")
    served = Counter(name[0] for _ in range(8) for name in driver.plan())
    assert served == {"a": 4, "b": 4}


def test_an_unimportant_flood_waits_for_the_important_one() -> None:
    """Shares are kept within a priority; the lower value goes first whatever it has had."""
    driver = Driver(max_num_seqs=1)
    driver.add("late", tenant="b", priority=1, max_tokens=1)
    for i in range(3):
        driver.add(f"a{i}", tenant="a", priority=0, max_tokens=1)
    assert [list(driver.plan()) for _ in range(4)] == [["a0"], ["a1"], ["a2"], ["late"]]


def test_the_preempted_comes_back_before_what_never_ran() -> None:
    driver = Driver(num_blocks=8, max_model_len=32, max_num_seqs=2)
    driver.add("a", 8, max_tokens=11, tenant="a")
    driver.add("b", 8, max_tokens=14, tenant="b")
    driver.add("c", 8, max_tokens=1, tenant="c")  # has had nothing, and still waits its turn
    while driver.scheduler.stats().preemptions_total == 0:
        assert "c" not in driver.plan()
    while "b" not in (plan := driver.plan()):
        assert list(plan) == ["a"], "the only one that runs"


def test_a_short_prompt_starts_beside_a_long_one() -> None:
    """It does not wait until the long prompt in front of it is wholly computed."""
    driver = Driver(max_num_batched_tokens=32)
    driver.add("long", 120)
    assert driver.plan() == {"long": 32}
    driver.add("short", 9)
    assert driver.plan() == {"long": 15 + 8, "short": 9}
    assert driver.plan() == {"long": 31, "short": 1}


def test_prompts_that_fit_go_one_after_the_other() -> None:
    """Two of 20 tokens and a budget of 32: one is done in the first step, not both in the second;
    the last step of a prompt holds up who comes after it by that step alone."""
    driver = Driver(max_num_batched_tokens=32)
    for name in "xyz":
        driver.add(name, 20, cache_salt=name)
    assert driver.plan() == {"x": 20, "y": 6, "z": 6}
    assert driver.plan() == {"x": 1, "y": 14, "z": 14}


def test_several_long_prompts_leave_half_to_whoever_comes_next() -> None:
    driver = Driver(max_num_batched_tokens=65, max_model_len=128, num_blocks=256)
    for name in "xyz":
        driver.add(name, 127)
    assert driver.plan() == {"x": 33, "y": 16, "z": 16}
    driver.add("w", 127)
    assert driver.plan() == {"x": 32, "y": 16, "z": 9, "w": 8}


@given(
    wants=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    num_tokens=st.integers(0, 600),
    num_newcomers=st.integers(0, 4),
)
def test_the_budget_is_never_exceeded_and_never_wasted(
    wants: list[int], num_tokens: int, num_newcomers: int
) -> None:
    sequences = [
        Sequence(
            make_request(prompt=[1] * want), max_tokens=1, arrival=i, timings=SequenceTimings(0.0)
        )
        for i, want in enumerate(wants)
    ]
    running, newcomers = sequences[num_newcomers:], sequences[:num_newcomers]
    budget = TokenBudget(num_tokens)
    for sequence in running:
        budget.offer(sequence, is_last=False)
    for sequence in newcomers:
        if budget.left:
            budget.admit(sequence, is_last=sequence is newcomers[-1])
            running.append(sequence)
    num_first = sum(sequence in newcomers for sequence in running)
    budget.offer_again(running)
    given_tokens = [budget.tokens_of(sequence) for sequence in running]
    assert sum(budget.extra.values()) + num_first + budget.left == num_tokens
    assert all(n <= s.num_uncomputed_tokens for n, s in zip(given_tokens, running, strict=True))
    needs_more = [s for s in running if budget.tokens_of(s) < s.num_uncomputed_tokens]
    assert not (budget.left and needs_more)


def test_reserve_admits_only_what_fits_to_its_end() -> None:
    """32 tokens of KV: two of 8 + 8 fit, and the third waits although its prompt would fit."""
    driver = Driver(num_blocks=8, max_model_len=32, admission=Admission.RESERVE)
    for name in "abc":
        driver.add(name, 8, max_tokens=8)
    assert driver.plan() == {"a": 8, "b": 8}
    while driver.scheduler.has_work:
        driver.plan()
    assert driver.scheduler.stats().preemptions_total == 0


def test_no_thrash_under_pressure() -> None:
    """Preempted work is mostly found again: little is computed twice, even with a tiny pool."""
    chance = random.Random(0)
    driver = Driver(num_blocks=12, max_model_len=48, max_num_seqs=8, max_num_batched_tokens=64)
    num_needed = num_computed = 0
    for i in range(60):
        num_tokens, max_tokens = chance.randint(1, 20), chance.randint(4, 28)
        num_needed += num_tokens + max_tokens - 1
        driver.add(f"{chr(65 + i)}", num_tokens, max_tokens=max_tokens)
    while driver.scheduler.has_work:
        num_computed += sum(driver.plan().values())
    assert driver.scheduler.stats().preemptions_total > 10, "there is pressure"
    assert num_computed < 1.5 * num_needed


def test_the_default_budget_suits_the_device() -> None:
    assert default_batched_tokens("cpu", 64) == 256
    assert default_batched_tokens("cuda", 64) == 2048
    assert default_batched_tokens("cpu", 1000) == 2000, "never fewer tokens than rows"
