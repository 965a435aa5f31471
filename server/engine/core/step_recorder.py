"""What each step did and how long it took, as the engine remembers it.

One record a step goes into a ring, whether anybody looks or not, and that is all it costs. While
somebody looks, the records not told yet leave with the step's message (`pop_new`), and a
`StepHistory` on the other side gives them to its readers. A record names requests and counts their
tokens; it holds none, and the ring keeps no sequence alive.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from thirdeye.server.engine.interface.engine_stats import STEP_TOKENS_BOUNDS
from thirdeye.server.engine.interface.step_record import (
    RING_STEPS,
    RowKind,
    StepGauges,
    StepRecord,
    StepRow,
)
from thirdeye.server.engine.interface.trace import TraceRequest
from thirdeye.server.engine.interface.types import StepOutput
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

MAX_NAMED = 32  # of those who wait: a record stays small however long the queue is
KINDS = (RowKind.PREFILL, RowKind.DECODE)  # indexed by whether it decodes


class StepRecorder:
    """Called as a step goes on: start, scheduled, computed (unless it failed), inspected (if a
    piece of an inspection was done), finish.
    """

    def __init__(self, size: int = RING_STEPS) -> None:
        self._ring: deque[StepRecord] = deque(maxlen=size)
        self._num_steps = 0
        self._num_told = 0
        self._num_preemptions = 0  # up to the step before
        self._step_tokens = 0
        self._step_tokens_counts = [0] * (len(STEP_TOKENS_BOUNDS) + 1)
        self._schedule_total = self._forward_total = self._sample_total = 0.0
        self._draft = self._draft_total = 0.0
        self._started = self._schedule = self._forward = self._sample = 0.0
        self._inspected, self._inspect = "", 0.0
        self._rows: list[StepRow] = []
        self._waiting: list[str] = []
        self._preempted: list[str] = []
        self._tenants: dict[str, str] = {}
        self._gauges = StepGauges(0, 0, 0, 0, 0.0)

    def start(self) -> None:
        self._started = time.perf_counter()

    def scheduled(self, plan: StepPlan, gauges: StepGauges, queue: Iterable[Sequence]) -> None:
        """`gauges` and `queue`, those who wait, are the scheduler's, as the step begins.

        All is read now: when the step is over, the sequences have grown.
        """
        self._draft = gauges.draft_seconds_total - self._draft_total
        self._draft_total = gauges.draft_seconds_total
        self._schedule = time.perf_counter() - self._started - self._draft
        self._forward = self._sample = 0.0
        self._inspected, self._inspect = "", 0.0
        self._gauges = gauges
        self._rows = [describe(row) for row in plan.rows]
        waiting, preempted = describe_queue(queue)
        self._waiting, self._preempted = ids_of(waiting), ids_of(preempted)
        rows = [row.sequence for row in plan.rows]
        self._tenants = {
            sequence.request.request_id: tenant
            for sequence in (*rows, *waiting, *preempted)
            if (tenant := sequence.request.tenant)
        }
        if self._rows:
            self._count(sum([row.num_tokens for row in self._rows]))

    def _count(self, num_tokens: int) -> None:
        self._step_tokens += num_tokens
        self._step_tokens_counts[bisect_left(STEP_TOKENS_BOUNDS, num_tokens)] += 1

    def computed(self, forward_seconds: float, sample_seconds: float) -> None:
        self._forward, self._sample = forward_seconds, sample_seconds

    def inspected(self, request: TraceRequest, seconds: float) -> None:
        self._inspected, self._inspect = request.request_id, seconds
        if request.tenant:
            self._tenants[request.request_id] = request.tenant

    def finish(self, outputs: Iterable[StepOutput] = ()) -> None:
        """`outputs` are what the step gave."""
        gauges, total = self._gauges, time.perf_counter() - self._started
        self._ring.append(
            StepRecord(
                step=self._num_steps,
                started_at=time.time() - total,
                rows=self._rows,
                num_waiting=gauges.num_waiting,
                waiting=self._waiting,
                preempted=self._preempted,
                finished=[o.request_id for o in outputs if o.finish_reason is not None],
                tenants=self._tenants,
                inspected=self._inspected,
                num_blocks_used=gauges.num_blocks_used,
                num_blocks_free=gauges.num_blocks_total - gauges.num_blocks_used,
                num_preemptions=gauges.preemptions_total - self._num_preemptions,
                schedule_ms=self._schedule * 1000,
                draft_ms=self._draft * 1000,
                forward_ms=self._forward * 1000,
                sample_ms=self._sample * 1000,
                inspect_ms=self._inspect * 1000,
                total_ms=total * 1000,
            )
        )
        self._num_steps += 1
        self._num_preemptions = gauges.preemptions_total
        self._schedule_total += self._schedule
        self._forward_total += self._forward
        self._sample_total += self._sample

    def pop_new(self) -> list[StepRecord]:
        """The records that were not taken yet and are still remembered, in order."""
        num_new = self._num_steps - self._num_told
        self._num_told = self._num_steps
        return list(islice(reversed(self._ring), num_new))[::-1]

    def totals(self) -> dict[str, Any]:
        """The fields of `EngineStats` that are counted here."""
        return {
            "schedule_seconds_total": self._schedule_total,
            "forward_seconds_total": self._forward_total,
            "sample_seconds_total": self._sample_total,
            "step_tokens_total": self._step_tokens,
            "step_tokens_counts": list(self._step_tokens_counts),
        }


def describe(row: PlanRow) -> StepRow:
    """It decodes where the newest token, a generated one, is all that is missing."""
    sequence, start = row.sequence, row.start
    is_decode = start >= sequence.num_prompt_tokens and start >= len(sequence.token_ids) - 1
    num_cached = 0 if sequence.timings.num_steps else sequence.num_cached_tokens
    return StepRow(sequence.request.request_id, row.end - start, KINDS[is_decode], num_cached)


def describe_queue(queue: Iterable[Sequence]) -> tuple[list[Sequence], list[Sequence]]:
    """Who waits for a first step, and who was preempted: MAX_NAMED of each. In `queue` the
    preempted come first, and it is read no further than that: each step looks at it."""
    waiting: list[Sequence] = []
    preempted: list[Sequence] = []
    for sequence in queue:
        if sequence.turn is None:
            waiting.append(sequence)
        elif len(preempted) < MAX_NAMED:
            preempted.append(sequence)
        if len(waiting) == MAX_NAMED:
            break
    return waiting, preempted


def ids_of(sequences: Iterable[Sequence]) -> list[str]:
    return [sequence.request.request_id for sequence in sequences]
