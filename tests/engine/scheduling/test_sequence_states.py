"""Of which prefixes a state is kept, how long, and what a prefix hit is worth without one."""

from tests.engine.toy import make_request, toy_config
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.scheduling.scheduler import Scheduler

SHARED = [*range(1, 19)]  # four blocks of 4, and two tokens
TOKEN = 30


def make_scheduler(**sizes: object) -> Scheduler:
    config: EngineConfig = toy_config(**({"num_states": 8} | sizes))
    return Scheduler(config)


def run(scheduler: Scheduler, name: str, prompt: list[int], num_tokens: int = 1) -> int:
    """How many tokens of the prompt were found."""
    scheduler.add(make_request(name, prompt, max_tokens=num_tokens, ignore_eos=True))
    num_cached = 0
    while scheduler.has_work:
        plan = scheduler.schedule()
        rows = [RowResult(token_ids=[TOKEN] if row.is_sampled else []) for row in plan.rows]
        for output in scheduler.update(plan, StepResult(rows)):
            num_cached = output.num_cached_tokens
    scheduler.check_integrity()
    return num_cached


def test_the_same_prompt_again() -> None:
    scheduler = make_scheduler()
    assert run(scheduler, "first", SHARED) == 0
    assert run(scheduler, "again", SHARED) == 16
    assert run(scheduler, "longer", [*SHARED, 50, 51]) == 16


def test_a_prompt_of_whole_blocks() -> None:
    """Its last token is computed anew, so its state is kept a block before."""
    scheduler = make_scheduler()
    run(scheduler, "first", SHARED[:16])
    assert run(scheduler, "again", SHARED[:16]) == 12


def test_where_prompts_part() -> None:
    """The second knows the blocks, but not their state: it is kept then, for the third."""
    scheduler = make_scheduler()
    run(scheduler, "first", [*SHARED[:10], *[40] * 9])
    assert run(scheduler, "second", [*SHARED[:10], *[41] * 9]) == 0
    assert run(scheduler, "third", [*SHARED[:10], *[42] * 9]) == 8


def test_the_next_turn() -> None:
    """A prompt that goes on behind an answer: the state of the answer's last whole block."""
    scheduler = make_scheduler()
    run(scheduler, "first", SHARED, num_tokens=14)  # the last is not computed: 31, seven blocks
    assert run(scheduler, "next", [*SHARED, *[TOKEN] * 14, 60, 61]) == 28


def test_one_snapshot_for_an_answer() -> None:
    """However long it is, only its latest is kept beside that of the prompt."""
    scheduler = make_scheduler()
    run(scheduler, "first", SHARED, num_tokens=60)
    states = scheduler._states
    assert len(states._pool._rows._found) == 2  # type: ignore[attr-defined]


def test_the_least_recently_used_is_lost() -> None:
    scheduler = make_scheduler(num_states=3)
    prompts = {name: [start] * 9 for name, start in (("a", 1), ("b", 2), ("c", 3))}
    for name in "ab":
        run(scheduler, name, prompts[name])
    assert run(scheduler, "a again", prompts["a"]) == 8
    run(scheduler, "c", prompts["c"])  # takes the row of b's
    assert run(scheduler, "a", prompts["a"]) == 8
    assert run(scheduler, "b", prompts["b"]) == 0


def test_a_running_sequence_holds_its_row() -> None:
    """More wait than there are states: as many run as have one."""
    scheduler = make_scheduler(num_states=2)
    for name in "abc":
        scheduler.add(make_request(name, SHARED, max_tokens=2, ignore_eos=True))
    assert [row.sequence.request.request_id for row in scheduler.schedule().rows] == ["a", "b"]


def test_nothing_is_kept_without_a_prefix_cache() -> None:
    scheduler = make_scheduler(enable_prefix_caching=False)
    run(scheduler, "first", SHARED, num_tokens=20)
    assert run(scheduler, "again", SHARED) == 0
    assert not scheduler._states._pool._rows._found  # type: ignore[attr-defined]


def test_a_reset_forgets_states_too() -> None:
    scheduler = make_scheduler()
    run(scheduler, "first", SHARED)
    scheduler.reset_prefix_cache()
    assert run(scheduler, "again", SHARED) == 0
    assert run(scheduler, "third", SHARED) == 16


def test_what_is_counted() -> None:
    """Rows held and rows found, hits, and tokens that are known but for their state."""
    scheduler = make_scheduler()
    run(scheduler, "first", [*SHARED[:10], *[40] * 9])
    assert states_of(scheduler) == (0, 1, 0, 0)  # behind its fourth block
    run(scheduler, "second", [*SHARED[:10], *[41] * 9])
    assert states_of(scheduler) == (0, 3, 0, 8)  # where they part, and its own
    run(scheduler, "third", [*SHARED[:10], *[42] * 9])
    assert states_of(scheduler) == (0, 4, 1, 8)
    scheduler.add(make_request("runs", SHARED, max_tokens=9, ignore_eos=True))
    plan = scheduler.schedule()
    assert scheduler.stats().num_states_used >= 2  # its own, and a snapshot to come
    scheduler.fail(plan, "the step failed")
    scheduler.reset_prefix_cache()
    assert states_of(scheduler)[:2] == (0, 0)


def states_of(scheduler: Scheduler) -> tuple[int, int, int, int]:
    stats = scheduler.stats()
    hits = stats.snapshot_hits_total, stats.snapshot_missed_tokens_total
    return stats.num_states_used, stats.num_snapshots, *hits
