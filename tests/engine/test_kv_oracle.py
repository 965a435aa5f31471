"""The token-content oracle over scheduler and block pool, and the proof that it finds bugs."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from server.engine.blocks import BlockPool
from server.engine.plan import PlanRow
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence, SequenceStatus
from server.engine.spec import Speculator
from tests.engine.scheduling import SchedulerMachine

SETTINGS = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestScheduler(SchedulerMachine.TestCase):  # type: ignore[valid-type,misc]  # made at run time
    """Every position that a step reads holds exactly its own KV, whatever happened before."""

    settings = SETTINGS


def publish_before_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are findable as soon as they are scheduled."""
    make_row = Scheduler._row

    def row(self: Scheduler, sequence: Sequence, num_tokens: int) -> PlanRow:
        made = make_row(self, sequence, num_tokens)
        self._publish(made)
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
            sequence.block_table = []
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
                self._publish(row)
        return fail(self, plan, error)

    monkeypatch.setattr(Scheduler, "fail", mutant)


def count_rejected_drafts_as_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step with drafts, everything it wrote counts as computed."""
    settle = Speculator.settle

    def mutant(self: Speculator, row: PlanRow, num_accepted: int) -> None:
        settle(self, row, num_accepted)
        last = len(row.sequence.token_ids) - 1
        row.sequence.num_computed_tokens = min(row.end, last)
        if num_accepted < len(row.draft_token_ids):  # the bonus token's slot holds the wrong draft
            row.sequence.num_computed_tokens = min(row.end, last + 1)

    monkeypatch.setattr(Speculator, "settle", mutant)


def publish_rejected_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that rejected drafts have filled is published as what it holds for the moment."""
    publish = Scheduler._publish

    def mutant(self: Scheduler, row: PlanRow, num_accepted: int = 0) -> None:
        sequence = row.sequence
        true_ids, true_hashes = sequence.token_ids, list(sequence.block_hashes)
        sequence.token_ids = [*true_ids[: row.real_end], *row.draft_token_ids]
        publish(self, row, len(row.draft_token_ids))
        sequence.token_ids, sequence.block_hashes[:] = true_ids, true_hashes

    monkeypatch.setattr(Scheduler, "_publish", mutant)


def keep_the_blocks_of_rejected_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that only drafts had needed stay with the sequence."""
    monkeypatch.setattr(Speculator, "settle", lambda self, row, num_accepted: None)


def draft_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts are written wherever the table ends."""
    monkeypatch.setattr(Speculator, "_make_room", lambda self, sequence, num_drafts: num_drafts)


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    publish_before_computed,
    forget_the_parent,
    forget_the_salt,
    keep_taken_blocks_findable,
    leave_shared_blocks_free,
    hit_the_whole_prompt,
    keep_computed_tokens_at_preemption,
    leak_at_abort,
    preempt_the_first,
    publish_what_failed,
    count_rejected_drafts_as_computed,
    publish_rejected_drafts,
    keep_the_blocks_of_rejected_drafts,
    draft_without_room,
]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_finds_a_planted_bug(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the test: each of these bugs is one that a real engine has had, or nearly."""
    mutate(monkeypatch)
    hunt = settings(
        SETTINGS,
        max_examples=2000,
        phases=[Phase.generate],  # any failure will do, it need not be the shortest
        database=None,
        derandomize=True,
        print_blob=False,
    )
    with pytest.raises((AssertionError, KeyError, IndexError, ValueError)):
        run_state_machine_as_test(SchedulerMachine, settings=hunt)
