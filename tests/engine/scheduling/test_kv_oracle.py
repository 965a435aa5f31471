"""The token-content oracle over scheduler and block pool, and the proof that it finds bugs."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import settings

from tests.engine.planted import REPEATABLE, assert_finds_the_bug, name_of, rarely_seen
from tests.engine.scheduling.scheduler_machine import SchedulerMachine
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.scheduling.deadlines import Deadlines
from thirdeye.server.engine.scheduling.prefixes import Prefixes
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.speculation.speculator import Speculator
from thirdeye.server.engine.scheduling.step_plan import PlanRow
from thirdeye.server.engine.scheduling.tenant_shares import TenantShare, TenantShares
from thirdeye.server.engine.scheduling.token_budget import TokenBudget
from thirdeye.server.engine.scheduling.waiting_queue import PriorityLevel, WaitingQueue

IS_PROVING = settings.get_current_profile_name() == "prove"  # `pytest --hypothesis-profile=prove`


@pytest.mark.timeout(900)
class TestScheduler(SchedulerMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """Every position that a step reads holds exactly its own KV, whatever happened before: 100
    runs of 50 rules, and 20,000 of 100 in `tests/prove`."""

    settings = (
        settings() if IS_PROVING else settings(REPEATABLE, max_examples=100, stateful_step_count=50)
    )


def publish_before_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are findable as soon as they are scheduled."""
    make_row = Scheduler._row

    def row(self: Scheduler, sequence: Sequence, num_tokens: int) -> PlanRow:
        made = make_row(self, sequence, num_tokens)
        self._prefixes.publish(made)
        return made

    monkeypatch.setattr(Scheduler, "_row", row)


def forget_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's hash covers its own tokens alone."""
    extend = BlockPool.extend_hashes

    def extend_hashes(
        self: BlockPool, block_hashes: list[bytes], token_ids: list[int], cache_salt: str
    ) -> None:
        size = self.block_size
        for i in range(len(block_hashes), len(token_ids) // size):
            alone: list[bytes] = []
            extend(self, alone, token_ids[i * size : (i + 1) * size], cache_salt)
            block_hashes += alone

    monkeypatch.setattr(BlockPool, "extend_hashes", extend_hashes)


def forget_the_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenants share their prefixes."""
    extend = BlockPool.extend_hashes
    monkeypatch.setattr(
        BlockPool, "extend_hashes", lambda self, hashes, ids, salt: extend(self, hashes, ids, "")
    )


def keep_taken_blocks_findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block taken for new content is still found for its old content."""
    monkeypatch.setattr(BlockPool, "_forget", lambda self, block_id: None)


def leave_shared_blocks_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix hit does not take its blocks out of the free list."""

    def share(self: BlockPool, block_ids: Iterable[int]) -> None:
        for block_id in block_ids:
            self._blocks[block_id].ref_count += 1

    monkeypatch.setattr(BlockPool, "share", share)


def hit_the_whole_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix hit may cover every token, so that there is nothing to compute logits from."""
    find = BlockPool.find_prefix
    monkeypatch.setattr(
        BlockPool, "find_prefix", lambda self, hashes, ids: find(self, hashes, [*ids, 0])
    )


def keep_computed_tokens_at_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preempted sequence that comes back without a hit believes its KV is still there."""
    preempt = Scheduler._preempt

    def mutant(self: Scheduler, sequence: Sequence) -> None:
        preempt(self, sequence)
        sequence.num_computed_tokens = 0
        start = Scheduler._start

        def restart(self: Scheduler, other: Sequence) -> bool:
            is_started = start(self, other)
            if is_started and other.num_preemptions and other.num_computed_tokens == 0:
                other.num_computed_tokens = min(1, len(other.token_ids) - 1)
            return is_started

        monkeypatch.setattr(Scheduler, "_start", restart)

    monkeypatch.setattr(Scheduler, "_preempt", mutant)


def leak_at_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that ends early keeps its blocks."""
    finish = Scheduler._finish

    def mutant(self: Scheduler, sequence: Sequence, reason: Any, **more: Any) -> Any:
        if reason == "abort":
            sequence.blocks = BlockTables()
        return finish(self, sequence, reason, **more)

    monkeypatch.setattr(Scheduler, "_finish", mutant)


def preempt_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most entitled sequence is the victim."""
    preempt = Scheduler._preempt

    def mutant(self: Scheduler, sequence: Sequence) -> None:
        first = self._running[0] if self._running else sequence
        if first is not sequence:
            self._running[0] = sequence
            self._running.sort(key=lambda s: s.order)
            sequence = first
        preempt(self, sequence)

    monkeypatch.setattr(Scheduler, "_preempt", mutant)


def publish_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a failed step are findable although their KV was never written."""
    fail = Scheduler.fail

    def mutant(self: Scheduler, plan: Any, error: str) -> Any:
        for row in plan.rows:
            if row.sequence.status is SequenceStatus.RUNNING:
                self._prefixes.publish(row)
        return fail(self, plan, error)

    monkeypatch.setattr(Scheduler, "fail", mutant)


def serve_tenants_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is charged, so that whoever sends most gets most."""
    monkeypatch.setattr(Sequence, "charge", lambda self, end: None)


def credit_for_idling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant that was away comes back with all it did not use."""

    def join(self: TenantShares, priority: int, tenant: str) -> TenantShare:
        share = self._shares.setdefault(priority, {}).setdefault(tenant, TenantShare())
        share.num_unfinished += 1
        return share

    monkeypatch.setattr(TenantShares, "join", join)


def last_come_first_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a tenant, the latest arrival is the next."""
    push = WaitingQueue.push

    def mutant(self: WaitingQueue, sequence: Sequence) -> None:
        push(self, sequence)
        for queue in self._levels[sequence.request.priority].arrived.values():
            queue.rotate(1)

    monkeypatch.setattr(WaitingQueue, "push", mutant)


def ready_is_arriving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose grammar took long to compile waits behind all that came meanwhile."""
    push = WaitingQueue.push

    def mutant(self: WaitingQueue, sequence: Sequence) -> None:
        push(self, sequence)
        if sequence.turn is None:
            queue = self._levels[sequence.request.priority].arrived[sequence.request.tenant]
            queue.remove(sequence)
            queue.append(sequence)

    monkeypatch.setattr(WaitingQueue, "push", mutant)


def newcomers_before_preempted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was preempted waits behind everything that never ran."""
    peek = PriorityLevel.peek

    def mutant(self: PriorityLevel) -> Sequence:
        return peek(PriorityLevel([], self.arrived) if self.arrived else self)

    monkeypatch.setattr(PriorityLevel, "peek", mutant)


def first_prompt_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long prompt gets the whole budget, and whoever comes after it waits until it is done."""
    offer = TokenBudget.offer
    monkeypatch.setattr(
        TokenBudget, "offer", lambda self, sequence, is_last: offer(self, sequence, True)
    )


def half_for_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that could be done in this step is cut, for others to be begun and not done."""

    def mutant(self: TokenBudget, sequence: Sequence, is_last: bool) -> None:
        self._give(sequence, self.left if is_last else self.left // 2)

    monkeypatch.setattr(TokenBudget, "offer", mutant)


def waste_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept for others is not used when they do not need it."""
    monkeypatch.setattr(TokenBudget, "offer_again", lambda self, sequences: None)


def reserve_for_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Admission.RESERVE` forgets what the newcomer itself will need."""

    def mutant(self: Scheduler, newcomer: Sequence, prefix: Any) -> int:
        return sum(self._num_blocks_at_end(s) - len(s.block_table) for s in self._running)

    monkeypatch.setattr(Scheduler, "_num_blocks_to_spare", mutant)


def queue_limit_for_those_who_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was started in time is ended as if it still waited."""
    monkeypatch.setattr(Deadlines, "start", lambda self, sequence: None)


def no_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is ever late."""
    monkeypatch.setattr(Deadlines, "late", lambda self, now: iter(()))


def count_rejected_drafts_as_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step with drafts, everything it wrote counts as computed."""
    settle = Speculator.release_rejected

    def mutant(self: Speculator, row: PlanRow, num_accepted: int) -> None:
        settle(self, row, num_accepted)
        last = len(row.sequence.token_ids) - 1
        row.sequence.num_computed_tokens = min(row.end, last)
        if num_accepted < len(row.draft_token_ids):  # the bonus token's slot holds the wrong draft
            row.sequence.num_computed_tokens = min(row.end, last + 1)

    monkeypatch.setattr(Speculator, "release_rejected", mutant)


def publish_rejected_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that rejected drafts have filled is published as what it holds for the moment."""
    publish = Prefixes.publish

    def mutant(self: Prefixes, row: PlanRow, num_accepted: int = 0) -> None:
        sequence = row.sequence
        true_ids, true_hashes = sequence.token_ids, list(sequence.block_hashes)
        sequence.token_ids = [*true_ids[: row.real_end], *row.draft_token_ids]
        publish(self, row, len(row.draft_token_ids))
        sequence.token_ids, sequence.block_hashes[:] = true_ids, true_hashes

    monkeypatch.setattr(Prefixes, "publish", mutant)


def keep_the_blocks_of_rejected_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that only drafts had needed stay with the sequence."""
    monkeypatch.setattr(Speculator, "release_rejected", lambda self, row, num_accepted: None)


def draft_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are written wherever the table ends."""
    monkeypatch.setattr(
        Speculator, "_ensure_blocks", lambda self, row, num_drafts, num_rows: num_drafts
    )


MUTATIONS = [
    publish_before_computed,
    forget_the_parent,
    forget_the_salt,
    keep_taken_blocks_findable,
    leave_shared_blocks_free,
    hit_the_whole_prompt,
    keep_computed_tokens_at_preemption,
    rarely_seen(leak_at_abort),
    rarely_seen(preempt_the_first),
    publish_what_failed,
    rarely_seen(serve_tenants_as_they_come),
    credit_for_idling,
    last_come_first_served,
    ready_is_arriving,
    newcomers_before_preempted,
    rarely_seen(first_prompt_takes_all),
    rarely_seen(half_for_one_that_fits),
    waste_the_budget,
    reserve_for_the_others_alone,
    queue_limit_for_those_who_run,
    no_deadlines,
    count_rejected_drafts_as_computed,
    publish_rejected_drafts,
    keep_the_blocks_of_rejected_drafts,
    draft_without_room,
]
FOUND_BY = {  # seeds, see tests/engine/planted.py
    leave_shared_blocks_free: 0,
    hit_the_whole_prompt: 0,
    credit_for_idling: 1,
    publish_before_computed: 1,
    publish_what_failed: 1,
    newcomers_before_preempted: 1,
    keep_the_blocks_of_rejected_drafts: 0,
    forget_the_parent: 0,
    forget_the_salt: 0,
    ready_is_arriving: 0,
    keep_computed_tokens_at_preemption: 0,
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=name_of)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test: each of these bugs is one that a real engine has had, or nearly."""
    mutate(monkeypatch)
    assert_finds_the_bug(
        SchedulerMachine, max_examples=2000, num_steps=30, found_by=FOUND_BY.get(mutate)
    )
