"""Which tokens each step computes. One rule: sequences catch up, within a budget of tokens.

Each step gives every running sequence at least one token, shares the rest of the budget between
those that are further behind (`token_budget.py`), and admits waiting sequences, in the queue's
order (`waiting_queue.py`), as long as a token, a row and blocks are left. A long prompt is thus
computed in chunks beside the running answers (chunked prefill), and prefix hits and resumption are
only another starting point.

A sequence is admitted with the blocks of all its present tokens, and takes one more as its answer
grows; of layers with a window it has those of the window and of its next chunk (`GroupedBlocks`).
When none is free, the last of `running` is preempted: it loses its blocks and waits, before
all that were never admitted, to be computed again; its blocks stay findable, so that most of them
usually come back. As `running` is sorted by priority and first admission, and the first can always
have every block (`EngineConfig` checks that any sequence fits alone), the first always advances: no
deadlock, and whoever was admitted is not overtaken by later admissions. With `Admission.RESERVE`
nothing is admitted whose blocks up to `max_tokens` are not free, and nothing is ever preempted.

Pure Python: it knows no tensor and no model.
"""

import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.grouped_blocks import GroupedBlocks, KnownPrefix
from thirdeye.server.engine.interface.engine_config import Admission, EngineConfig
from thirdeye.server.engine.interface.engine_stats import EngineStats
from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.pooling import add_sums, unit_vector
from thirdeye.server.engine.interface.step_record import StepGauges
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import (
    ErrorCode,
    FinishReason,
    Request,
    StepOutput,
)
from thirdeye.server.engine.scheduling.deadlines import Deadlines
from thirdeye.server.engine.scheduling.late_masks import LateMasks
from thirdeye.server.engine.scheduling.prefixes import Prefixes
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceStatus
from thirdeye.server.engine.scheduling.sequence_states import make_states
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.server.engine.scheduling.speculation.speculator import Speculator
from thirdeye.server.engine.scheduling.step_pace import StepPace
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan
from thirdeye.server.engine.scheduling.stopping import finish_after
from thirdeye.server.engine.scheduling.tenant_shares import TenantShares
from thirdeye.server.engine.scheduling.token_budget import TokenBudget
from thirdeye.server.engine.scheduling.waiting_queue import WaitingQueue, by_order


class RequestTooLarge(ValueError):
    """It could never be computed, however long it waited. The text is for its caller."""


class Scheduler:
    """`schedule()` and `update()` take turns; `add` and `abort` may come between turns.

    Or: `schedule()`, `launched()` of that plan, then `update()` of the one before. A plan made so
    is right whatever the step before it says: its rows are those of sequences that may go on, and
    what becomes of one that turns out to have ended is thrown away.
    """

    def __init__(
        self,
        config: EngineConfig,
        pool: BlockPool | None = None,
        clock: Callable[[], float] = time.monotonic,
        proposer: Proposer | None = None,
    ) -> None:
        self._config = config
        self.pace = StepPace(config)
        self._pool = pool or BlockPool(config.num_blocks, config.block_size)
        self._blocks = GroupedBlocks(config, self._pool)
        self._gives_back = any(config.windows)
        self._states = make_states(config, self._pool)
        self._prefixes = Prefixes(config, self._pool, self._states)
        self._speculator = Speculator(config, self._pool, proposer)
        self._clock = clock
        self._eos_token_ids = frozenset(config.eos_token_ids)
        self._sequences: dict[str, Sequence] = {}  # waiting and running
        self._waiting = WaitingQueue()
        self._unready: dict[str, Sequence] = {}  # not queued yet: something of theirs is missing
        self._tenant_shares = TenantShares()
        self._late = LateMasks()  # none of these has a row; the preempted of them are in no queue
        self._deadlines = Deadlines(config)
        self._running: list[Sequence] = []  # sorted by order: the last is the first to be preempted
        self._num_arrivals = self._num_turns = 0
        self._prompt_tokens = self._generation_tokens = 0
        self._preemptions = self._queue_timeouts = self._steps = 0

    # --- requests come and go ---

    def add(self, request: Request, *, is_ready: bool = True) -> None:
        """Queue a request. `RequestTooLarge` for one that could never be computed.

        One that is not ready waits for `make_ready`, and takes nobody's turn until then.

        Whatever fits the context fits the KV cache alone, so nothing else is too large: the choices
        of one API request are requests of their own, and can run one after another.
        """
        num_prompt_tokens, limit = len(request.prompt_token_ids), self._config.max_model_len
        if not 1 <= num_prompt_tokens <= limit:
            raise RequestTooLarge(
                f"The prompt must have between 1 and {limit} tokens, got {num_prompt_tokens}."
            )
        if request.request_id in self._sequences:
            raise ValueError(f"'request_id' must be unique, {request.request_id!r} is running.")
        sequence = Sequence(
            request=request,
            max_tokens=min(request.sampling.max_tokens, limit - num_prompt_tokens),
            arrival=self._num_arrivals,
            timings=SequenceTimings(arrived_at=self._clock()),
            share=self._tenant_shares.join(request.priority, request.tenant),
        )
        self._num_arrivals += 1
        self._sequences[request.request_id] = sequence
        if is_ready:
            self._waiting.push(sequence)
        else:
            self._unready[request.request_id] = sequence
        self._deadlines.watch(sequence)

    def make_ready(self, request_id: str, matcher: Matcher) -> None:
        """Queue a request that was added unready and has not ended: its matcher is here."""
        sequence = self._unready.pop(request_id)
        sequence.matcher = matcher
        self._late.watch(sequence)
        if sequence not in self._late:
            self._waiting.push(sequence)

    def reject(self, request_id: str, error: str, error_code: ErrorCode | None) -> StepOutput:
        """End one request with an error: its last output."""
        sequence = self._sequences[request_id]
        return self._finish(sequence, FinishReason.ERROR, error=error, error_code=error_code)

    def abort(self, request_id: str) -> StepOutput | None:
        """The last output of a request, whose blocks are free again; None if it is not known."""
        sequence = self._sequences.get(request_id)
        return None if sequence is None else self._finish(sequence, FinishReason.ABORT)

    def abort_all(self) -> list[StepOutput]:
        return [self._finish(s, FinishReason.ABORT) for s in list(self._sequences.values())]

    def fail(
        self, plan: StepPlan, error: str, error_code: ErrorCode | None = None
    ) -> list[StepOutput]:
        """End every sequence of a step that could not be computed, if it has not ended already."""
        reason = FinishReason.ERROR
        for row in plan.rows:
            self._states.drop(row)
        return [
            self._finish(row.sequence, reason, error=error, error_code=error_code)
            for row in plan.rows
            if row.sequence.status is not SequenceStatus.FINISHED
        ]

    @property
    def is_empty(self) -> bool:
        return not self._sequences

    @property
    def has_work(self) -> bool:
        """Whether a step has something to compute, or will have once there is room; those that are
        not ready, or sit out, need none."""
        return len(self._sequences) > len(self._unready) + len(self._late)

    def awaited(self) -> list[int]:
        """Descriptors, one of which is readable before those that sit out have something to do."""
        return self._late.descriptors()

    # --- before a step ---

    def expire(self) -> list[StepOutput]:
        """End every request that is late: the last outputs. To be called before `schedule`."""
        outputs: list[StepOutput] = []
        for sequence, code, why in self._deadlines.late(self._clock()):
            self._queue_timeouts += code is ErrorCode.QUEUE_TIMEOUT
            outputs.append(self._finish(sequence, FinishReason.ERROR, error=why, error_code=code))
        return outputs

    def take_masks(self) -> list[StepOutput]:
        """Let those go on whose mask has arrived; the last outputs of those that end with it. To be
        called before `schedule`."""
        outputs: list[StepOutput] = []
        for sequence, reason in self._late.arrived():
            if sequence.status is SequenceStatus.WAITING:
                self._waiting.push(sequence)
            if reason is not None:
                outputs.append(self._finish(sequence, reason))
        return outputs

    @property
    def reads_newest(self) -> bool:
        """Whether a step in flight is to be read before the next is planned."""
        return self._speculator.reads_newest(self._running)

    def schedule(self) -> StepPlan:
        """The next step. It has a row if `has_work`, unless all that runs sits out or is in
        flight."""
        has_preempted = self._ensure_blocks()
        here = self._late.due(self._running)
        budget = TokenBudget(self.pace.num_tokens - len(here))
        # After a preemption nobody is let in: it would be the victims, at once.
        may_admit = not has_preempted and self._has_free_row
        behind = [s for s in here if s.num_unplanned_tokens > 1]
        for sequence in behind:
            budget.offer(sequence, is_last=sequence is behind[-1] and not may_admit)
        if may_admit:
            behind += self._admit(budget)
        budget.offer_again(behind)
        # What was never launched ahead is due, as all is on a CPU: asked first, for each row.
        here = self._late.due(self._running)
        due = [s for s in here if not s.num_launched_tokens or s.is_due]
        rows = [self._row(sequence, budget.tokens_of(sequence)) for sequence in due]
        is_held_up = len(due) < len(self._running)
        assert rows or is_held_up or not self.has_work, "there is work, yet none is scheduled"
        self._steps += bool(rows)
        rows = [self._states.plan(row) for row in rows]
        return StepPlan(self._speculator.draft(rows, self._states))

    def launched(self, plan: StepPlan) -> None:
        """This plan is being computed: the next one goes on behind it."""
        for row in plan.rows:
            row.sequence.num_launched_tokens = row.real_end
            row.sequence.num_launched_drafts = len(row.draft_token_ids)
            row.sequence.is_guessed_ahead = row.is_guessed_ahead
            self._states.launched(row)

    def settled(self, plan: StepPlan) -> StepPlan:
        """What is left of a plan that is not launched ahead, once all before it was read: rows that
        still run, without drafts, whose blocks may have been given back."""
        here = [row for row in plan.rows if row.sequence.status is SequenceStatus.RUNNING]
        return StepPlan([self._speculator.undrafted(row.settled()) for row in here])

    def drop(self, rows: Iterable[PlanRow]) -> None:
        """Of a plan that nobody reads, or that was never computed: their sequences have ended."""
        for row in rows:
            self._states.drop(row)

    @property
    def _has_free_row(self) -> bool:
        return bool(self._waiting) and len(self._running) < self._config.max_num_seqs

    def _ensure_blocks(self) -> bool:
        """Blocks for the tokens of each running sequence, at the cost of the last ones.

        True if one was preempted.
        """
        num_running, num_ready = len(self._running), 0
        while num_ready < len(self._running):  # the list gets shorter as sequences are preempted
            sequence = self._running[num_ready]
            is_due = sequence.is_due and sequence not in self._late
            num_tokens = sequence.num_tokens
            if sequence.num_launched_drafts:
                num_tokens += sequence.num_uncertain_tokens
            if not is_due or self._blocks.extend(sequence.blocks, num_tokens):
                num_ready += 1
            else:
                self._preempt(self._running.pop())
        return len(self._running) < num_running

    def _preempt(self, sequence: Sequence) -> None:
        self._blocks.free(sequence.blocks)
        self._speculator.release(sequence)
        self._states.stop(sequence)
        sequence.num_computed_tokens = sequence.num_launched_tokens = 0
        sequence.num_launched_drafts = 0
        sequence.hidden_sums = []
        sequence.status = SequenceStatus.WAITING
        sequence.num_preemptions += 1
        self._preemptions += 1
        if sequence not in self._late:
            self._waiting.push(sequence)

    def _admit(self, budget: TokenBudget) -> list[Sequence]:
        """Let in who waits, in the queue's order, as long as everything it needs is left."""
        admitted: list[Sequence] = []
        while self._has_free_row and budget.left > 0:
            sequence = self._waiting.peek()
            if not self._start(sequence):
                break
            budget.admit(sequence, is_last=not self._has_free_row)
            # Counted here, not only with its row: the queue's next choice depends on it.
            sequence.charge(sequence.num_computed_tokens + budget.tokens_of(sequence))
            admitted.append(sequence)
        return admitted

    def _start(self, sequence: Sequence) -> bool:
        """Make a waiting sequence run, with its blocks, found ones and new ones, and its state.

        False, and nothing done, if there is no room.
        """
        prefix, num_tokens = self._prefixes.find(sequence), len(sequence.token_ids)
        num_new, held = self._blocks.num_new(prefix, num_tokens), prefix.found.held()
        num_needed = num_new + self._pool.num_free_among(held)
        if num_needed + self._num_blocks_to_spare(sequence, prefix) > self._pool.num_free:
            return False
        if not self._states.can_start(sequence, prefix.num_blocks):
            return False
        self._states.start(sequence, prefix.num_blocks)
        self._waiting.remove(sequence)
        sequence.blocks = self._blocks.start(prefix, num_tokens)
        sequence.num_computed_tokens = prefix.num_blocks * self._pool.block_size
        sequence.status = SequenceStatus.RUNNING
        if sequence.turn is None:
            self._count_admission(sequence)
        insort(self._running, sequence, key=by_order)
        return True

    def _num_blocks_to_spare(self, newcomer: Sequence, prefix: KnownPrefix) -> int:
        """Free blocks that an admission must leave to those that run, and to the newcomer.

        One for each running sequence and group, else what is let in now would be preempted as soon
        as the others grow (no thrash); with `RESERVE` all that any of them may come to need.
        """
        if self._config.admission is Admission.PREEMPT:
            return len(self._running) * self._blocks.num_groups
        to_come = sum(
            self._num_blocks_at_end(s) - self._blocks.num_own(s.blocks) for s in self._running
        )
        num_own = self._blocks.num_own_behind(prefix, len(newcomer.token_ids))
        return to_come + self._num_blocks_at_end(newcomer) - num_own

    def _num_blocks_at_end(self, sequence: Sequence) -> int:
        return self._blocks.held_at_most(sequence.num_prompt_tokens + sequence.max_tokens)

    def _count_admission(self, sequence: Sequence) -> None:
        sequence.turn, self._num_turns = self._num_turns, self._num_turns + 1
        sequence.timings.admitted_at = self._clock()
        self._deadlines.start(sequence)
        sequence.num_cached_tokens = min(sequence.num_computed_tokens, sequence.num_prompt_tokens)
        self._prompt_tokens += sequence.num_prompt_tokens
        self._prefixes.count(sequence)

    def _row(self, sequence: Sequence, num_tokens: int) -> PlanRow:
        start = sequence.num_planned_tokens
        end = start + num_tokens
        score_start = score_end = start
        if start < sequence.num_prompt_tokens and sequence.num_prompt_logprobs_left:
            score_start = max(start, len(sequence.prompt_logprobs))
            score_end = max(score_start, min(end, sequence.num_prompt_tokens - 1))
        is_sampled = end == sequence.num_tokens and sequence.max_tokens > 0
        sequence.charge(end)
        uncertain = sequence.num_uncertain_tokens if sequence.num_launched_drafts else 0
        return PlanRow(
            sequence, start, end, score_start, score_end, is_sampled, num_uncertain=uncertain
        )

    # --- after a step ---

    def update(self, plan: StepPlan, result: StepResult) -> list[StepOutput]:
        """Take in what a step computed; what each request has to be told about it."""
        outputs: list[StepOutput] = []
        self._speculator.stepped(plan, result)
        for row, row_result in zip(plan.rows, result.rows, strict=True):
            if row.sequence.status is SequenceStatus.FINISHED:
                self._states.drop(row)
                continue  # it ended while this step was in flight
            row.sequence.timings.count_step(len(plan.rows))
            output = self._update_row(row, row_result)
            if output is not None:
                outputs.append(output)
        return outputs

    def _update_row(self, row: PlanRow, result: RowResult) -> StepOutput | None:
        row, sequence = row.settled(), row.sequence
        if result.error is not None:
            self._states.drop(row)
            reason, code = FinishReason.ERROR, result.error_code
            return self._finish(sequence, reason, error=result.error, error_code=code)
        sequence.prompt_logprobs += result.prompt_logprobs
        if sequence.status is SequenceStatus.WAITING:  # preempted while this step was in flight:
            self._states.drop(row)
            return self._append(row, result) if row.is_sampled else None  # its token is good
        sequence.num_computed_tokens = row.real_end
        sequence.hidden_sums = add_sums(sequence.hidden_sums, result.hidden_sums)
        if sequence.num_uncomputed_tokens:
            self._prefixes.publish(row)
            self._states.settle(row, 0)
            if self._gives_back:
                self._blocks.pass_by(sequence.blocks, sequence.num_computed_tokens)
            return self._progress(sequence) if sequence.request.return_progress else None
        return self._append(row, result)

    def _progress(self, sequence: Sequence) -> StepOutput | None:
        """How far the prompt is; nothing once tokens have come, which tell more."""
        if sequence.num_generated_tokens:
            return None
        return StepOutput(
            request_id=sequence.request.request_id,
            progress=sequence.progress(self._clock()),
            num_cached_tokens=sequence.num_cached_tokens,
        )

    def _append(self, row: PlanRow, result: RowResult) -> StepOutput:
        """Add new tokens to a sequence that has caught up, up to the one that ends it."""
        sequence = row.sequence
        is_first = sequence.timings.first_token_at is None
        sequence.timings.count_output(self._clock())
        reason = FinishReason.LENGTH if sequence.max_tokens == 0 else None
        stop_token_id: int | None = None
        new: list[int] = []
        for token_id in result.token_ids:
            new.append(token_id)
            sequence.token_ids.append(token_id)
            reason, stop_token_id = finish_after(
                token_id,
                sequence.num_generated_tokens,
                sequence.request.sampling,
                self._eos_token_ids,
                sequence.max_tokens,
            )
            if reason is not None:
                break
        if result.is_complete and len(new) == len(result.token_ids) and stop_token_id is None:
            reason = FinishReason.STOP  # also where it is the last token allowed
        self._generation_tokens += len(new)
        num_accepted = max(len(new) - 1, 0)  # drafts: their KV is computed, that of the rest stale
        if sequence.num_launched_tokens > row.real_end:  # the next step goes on behind them
            sequence.num_launched_tokens += num_accepted
        self._prefixes.publish(row, num_accepted)
        if sequence.status is SequenceStatus.RUNNING:
            sequence.num_computed_tokens += num_accepted
            self._states.settle(row, num_accepted)
            if self._gives_back:
                self._blocks.pass_by(sequence.blocks, sequence.num_computed_tokens)
        self._speculator.release_rejected(row, num_accepted)
        has_prompt_logprobs = is_first and sequence.request.sampling.prompt_logprobs is not None
        output = StepOutput(
            request_id=sequence.request.request_id,
            token_ids=new,
            logprobs=result.logprobs and result.logprobs[: len(new)],
            prompt_logprobs=list(sequence.prompt_logprobs) if has_prompt_logprobs else None,
            embedding=unit_vector(sequence.hidden_sums) if row.is_embedding else None,
            num_cached_tokens=sequence.num_cached_tokens,
        )
        if new and reason is not FinishReason.STOP and self._late.follows(sequence):
            if sequence.status is SequenceStatus.WAITING:  # preempted while this was in flight
                self._waiting.remove(sequence)
            self._late.ask(sequence, reason)
            return output
        if reason is None:
            return output
        return self._finish(sequence, reason, output=output, stop_token_id=stop_token_id)

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        *,
        output: StepOutput | None = None,
        stop_token_id: int | None = None,
        error: str | None = None,
        error_code: ErrorCode | None = None,
    ) -> StepOutput:
        """Let a sequence go, and turn its output, if it has one, into its last."""
        request_id = sequence.request.request_id
        del self._sequences[request_id]
        self._deadlines.forget(sequence)
        self._tenant_shares.leave(sequence.request.priority, sequence.request.tenant)
        if self._unready.pop(request_id, None) is not None:
            pass  # in no queue yet
        elif sequence.status is SequenceStatus.WAITING and sequence in self._late:
            pass  # in none until its mask is here
        elif sequence.status is SequenceStatus.WAITING:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
        self._blocks.free(sequence.blocks)
        self._speculator.release(sequence)
        self._states.stop(sequence)
        self._late.leave(sequence)
        sequence.status = SequenceStatus.FINISHED
        return msgspec.structs.replace(
            output
            or StepOutput(request_id=request_id, num_cached_tokens=sequence.num_cached_tokens),
            finish_reason=reason,
            stop_token_id=stop_token_id,
            error=error,
            error_code=error_code,
            timings=sequence.timings.until(self._clock(), sequence.num_preemptions),
        )

    # --- numbers and invariants ---

    def queue(self) -> Iterator[Sequence]:
        """Who waits: those that were preempted, and then, as many as are asked for, those that wait
        for their first step; each in the order of arrival."""
        unstarted = self._deadlines.unstarted
        if len(self._sequences) > len(self._running) + len(unstarted):
            waiting = SequenceStatus.WAITING
            ours = self._sequences.values()
            yield from (s for s in ours if s.turn is not None and s.status is waiting)
        yield from unstarted

    def adapters(self) -> tuple[set[int], set[int]]:
        """Those of the sequences that run, and of all others that are here."""
        running = {s.request.adapter for s in self._running}
        waiting = SequenceStatus.WAITING
        others = {s.request.adapter for s in self._sequences.values() if s.status is waiting}
        return running - {0}, others - {0}

    def gauges(self) -> StepGauges:
        return StepGauges(
            num_waiting=len(self._sequences) - len(self._running),
            num_blocks_used=self._pool.num_used,
            num_blocks_total=self._pool.num_blocks,
            preemptions_total=self._preemptions,
            draft_seconds_total=self._speculator.draft_seconds,
        )

    def stats(self, **more: Any) -> EngineStats:
        """`more`: fields that others count."""
        return EngineStats(
            num_requests_running=len(self._running),
            num_requests_waiting=len(self._sequences) - len(self._running),
            num_blocks_total=self._pool.num_blocks,
            num_blocks_used=self._pool.num_used,
            num_blocks_by_group=self._blocks.num_used_by_group(),
            **self._states.counts()._asdict(),
            **self._prefixes.totals(),
            prompt_tokens_total=self._prompt_tokens,
            generation_tokens_total=self._generation_tokens,
            preemptions_total=self._preemptions,
            queue_timeouts_total=self._queue_timeouts,
            steps_total=self._steps,
            **self._speculator.stats(),
            **more,
        )

    def reset_prefix_cache(self) -> None:
        """Forget the prefixes that no running sequence holds: whoever comes computes them anew."""
        self._pool.forget_unheld()
        self._states.reset()

    def check_idle(self) -> None:
        """When it is empty, nothing is held. O(1): a tiny model may have a million blocks."""
        is_queued = self._running or len(self._waiting) or self._unready or self._late.num_waiting
        assert not is_queued, "one that is gone is still queued"
        self._pool.check_all_free()
        self._states.check_all_free()

    def check_integrity(self) -> None:
        """Every block is accounted for by the tables of the running sequences alone."""
        self._blocks.check_integrity(sequence.blocks for sequence in self._running)
        self._states.check_integrity(self._running)
        assert self._running == sorted(self._running, key=by_order), "running is out of order"
        assert len(self._running) <= self._config.max_num_seqs, "too many sequences run"
        waiting = {s for s in self._sequences.values() if s.status is SequenceStatus.WAITING}
        assert waiting == {*self.queue()}, "one that waits is not in the queue"
        num_queued = len(self._running) + len(self._waiting) + len(self._unready)
        num_parked = self._late.num_waiting
        assert num_queued + num_parked == len(self._sequences), "one is lost"
