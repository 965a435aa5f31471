"""The KV cache's slow, obviously right twin: it remembers what every slot really holds.

A slot's content is (group, token, position, the whole prefix up to it, the salt). The content of a
real KV entry is a function of exactly these, so a row of a step may read a slot only if it holds
the entry of its own token, at its own position, after its own prefix. Drafts are written like
any token, so the slots of those that are rejected hold what no later step may read. A group of
layers with a window reads as far back as the window of each token, and has slots of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


@dataclass(frozen=True)
class Entry:
    token_id: int
    position: int
    prefix: tuple[int, ...]
    cache_salt: str
    group: int


class KVContent:
    """Call `compute` for each step that ran, `poison` for each that failed half way."""

    def __init__(self, block_size: int, windows: tuple[int, ...] = (0,)) -> None:
        self._block_size, self._windows = block_size, windows
        self._slots: dict[int, Entry | None] = {}

    def compute(self, plan: StepPlan) -> None:
        """Check every read of a step against what is there, and do its writes."""
        for row in plan.rows:
            self._check_reads(row, row.start)
        written: set[int] = set()
        for row in plan.rows:
            for group, position in self._writes(row):
                slot = self._slot(row, group, position)
                assert slot not in written, f"slot {slot} is written twice in a step"
                written.add(slot)
                self._slots[slot] = self._entry(row, group, position)
        for row in plan.rows:  # no row may have written over what another one reads
            self._check_reads(row, row.end)

    def poison(self, plan: StepPlan) -> None:
        for row in plan.rows:
            for group, position in self._writes(row):
                self._slots[self._slot(row, group, position)] = None

    def _writes(self, row: PlanRow) -> Iterator[tuple[int, int]]:
        for group in range(len(self._windows)):
            for position in range(row.start, row.end):
                yield group, position

    def _check_reads(self, row: PlanRow, end: int) -> None:
        for group, window in enumerate(self._windows):
            for position in range(max(0, row.start - window + 1) if window else 0, end):
                slot = self._slot(row, group, position)
                expected = self._entry(row, group, position)
                assert self._slots.get(slot) == expected, f"wrong KV in slot {slot}: {expected}"

    def _slot(self, row: PlanRow, group: int, position: int) -> int:
        block_id = row.sequence.blocks.tables[group][position // self._block_size]
        assert block_id >= 0, f"position {position} has no block"
        return block_id * self._block_size + position % self._block_size

    def _entry(self, row: PlanRow, group: int, position: int) -> Entry:
        token_ids = [*row.sequence.token_ids[: row.real_end], *row.draft_token_ids]
        prefix = tuple(token_ids[:position])
        return Entry(token_ids[position], position, prefix, row.sequence.request.cache_salt, group)
