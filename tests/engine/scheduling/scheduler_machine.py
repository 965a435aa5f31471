"""A state machine over scheduler and block pool, watched by the KV oracle. No model, no tensor.

Two tokens, so that prefixes collide all the time; pools so small that preemption is the rule;
sampled tokens come from a seed, and so do drafts, so that half of them are wrong; the clock moves
only when told. Some requests come with a grammar that is still being compiled: they are ready at
any time later, or never, since it cannot be compiled. Arrivals are bounded, and at the end
everything must finish. The rules between requests (turns, shares, deadlines) are held against
`tests/oracles/rules.py`, which counts for itself what it sees in the plans.
"""

import random
from collections import Counter
from collections.abc import Sequence as Seq

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from numpy.typing import NDArray

from tests.engine.scheduling.state_content import StateContent
from tests.oracles.kv_content import KVContent
from tests.oracles.rules import Rules
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.interface.engine_config import Admission, EngineConfig, most_blocks
from thirdeye.server.engine.interface.grammar_protocol import Matcher
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.interface.types import (
    ErrorCode,
    FinishReason,
    Request,
    SamplingParams,
    StepOutput,
    TokenLogprobs,
)
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

MAX_ARRIVALS = 12
EOS = 1


class Guesses:
    """A drafter that guesses anything, by chance, yet the same for the same text."""

    def propose(
        self, token_ids: Seq[int], num_prompt_tokens: int, few: int, limit: int
    ) -> list[int]:
        chance = random.Random(len(token_ids) * 31 + sum(token_ids) + num_prompt_tokens + few)
        return [chance.choice([0, 0, EOS]) for _ in range(chance.randint(0, limit))]


def say(row: PlanRow, chance: random.Random) -> list[int]:
    """The tokens of a sampled row: one, and one more for each draft that was the one before."""
    said = [chance.choice([0, 0, EOS])]
    for draft in row.draft_token_ids:
        if said[-1] != draft:
            break
        said.append(chance.choice([0, 0, EOS]))
    return said


class AnyText:
    """The matcher of a grammar that allows everything: the scheduler never asks it."""

    is_over = False
    late = None

    def follow(self, token_ids: Seq[int]) -> None: ...

    def fill(self, mask: NDArray[np.int32]) -> None:
        raise AssertionError("masks are for the runner")


class SchedulerMachine(RuleBasedStateMachine):
    num_states: tuple[int, ...] = (0,)  # one of these, by the other sizes
    windows: tuple[tuple[int, ...], ...] = ((0,),)  # of groups of layers, likewise
    books = Rules  # kept from outside

    @initialize(
        block_size=st.sampled_from([1, 2, 4, 4]),
        num_blocks=st.integers(3, 10),
        max_num_seqs=st.integers(1, 5),
        more_tokens=st.integers(0, 10),
        enable_prefix_caching=st.sampled_from([True, True, True, False]),
        admission=st.sampled_from([Admission.PREEMPT, Admission.PREEMPT, Admission.RESERVE]),
        queue_timeout=st.sampled_from([0, 0, 5]),
        request_timeout=st.sampled_from([0, 0, 20]),
        num_draft_tokens=st.sampled_from([0, 1, 3, 6]),
        max_tokens_with_drafts=st.sampled_from([4, 16]),
    )
    def start(
        self,
        block_size: int,
        num_blocks: int,
        max_num_seqs: int,
        more_tokens: int,
        enable_prefix_caching: bool,
        admission: Admission,
        queue_timeout: float,
        request_timeout: float,
        num_draft_tokens: int,
        max_tokens_with_drafts: int,
    ) -> None:
        num_states = self.num_states[(num_blocks + more_tokens) % len(self.num_states)]
        windows = self.windows[(num_blocks + more_tokens) % len(self.windows)]
        num_blocks *= len(windows)
        num_tokens = max_num_seqs + more_tokens
        self.config = EngineConfig(
            max_model_len=longest_text(windows, num_blocks, block_size, num_tokens),
            num_blocks=num_blocks,
            windows=windows,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=num_tokens,
            eos_token_ids=[EOS],
            enable_prefix_caching=enable_prefix_caching,
            admission=admission,
            queue_timeout=queue_timeout,
            request_timeout=request_timeout,
            num_draft_tokens=num_draft_tokens,
            max_tokens_with_drafts=max_tokens_with_drafts,
            num_states=num_states,
        )
        self.now = 0.0
        self.pool = BlockPool(num_blocks, block_size, root=b"fixed")
        self.scheduler = Scheduler(
            self.config, self.pool, clock=lambda: self.now, proposer=EachText(Guesses)
        )
        self.oracle = KVContent(block_size, windows)
        self.states = StateContent() if num_states else None
        self.rules_between = self.books(self.config)
        self.requests: dict[str, Request] = {}
        self.tokens: dict[str, list[int]] = {}
        self.unready: list[str] = []  # whose grammar is being compiled
        self.endings: Counter[str] = Counter()

    # --- rules ---

    @precondition(lambda self: len(self.requests) < MAX_ARRIVALS)
    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=12),
        max_tokens=st.integers(0, 12) | st.just(40),
        min_tokens=st.integers(0, 3),
        ignore_eos=st.sampled_from([True, True, False]),
        priority=st.sampled_from([0, 0, 0, 1, 2]),
        tenant=st.sampled_from(["", "", "a", "b"]),
        cache_salt=st.sampled_from(["", "", "salt"]),
        prompt_logprobs=st.sampled_from([None, None, None, 0]),
        is_ready=st.sampled_from([True, True, False]),
    )
    def add(
        self,
        prompt: list[int],
        max_tokens: int,
        min_tokens: int,
        ignore_eos: bool,
        priority: int,
        tenant: str,
        cache_salt: str,
        prompt_logprobs: int | None,
        is_ready: bool,
    ) -> None:
        self.send(
            Request(
                request_id=str(len(self.requests)),
                prompt_token_ids=prompt[: self.config.max_model_len],
                sampling=SamplingParams(
                    max_tokens=max_tokens,
                    min_tokens=min_tokens,
                    ignore_eos=ignore_eos,
                    prompt_logprobs=prompt_logprobs,
                ),
                priority=priority,
                tenant=tenant,
                cache_salt=cache_salt,
            ),
            is_ready=is_ready,
        )

    def send(self, request: Request, is_ready: bool = True) -> None:
        self.requests[request.request_id] = request
        self.tokens[request.request_id] = []
        self.rules_between.arrive(request, self.now, is_ready)
        self.scheduler.add(request, is_ready=is_ready)
        if not is_ready:
            self.unready.append(request.request_id)

    @precondition(lambda self: self.unready)
    @rule(choice=st.integers(0, MAX_ARRIVALS), is_compiled=st.sampled_from([True, True, False]))
    def finish_grammar(self, choice: int, is_compiled: bool) -> None:
        """Grammars are ready in any order, and one that is broken ends its request alone."""
        request_id = self.unready.pop(choice % len(self.unready))
        if is_compiled:
            self.scheduler.make_ready(request_id, self.make_matcher(request_id))
            self.rules_between.ready(request_id)
        else:
            code = ErrorCode.INVALID_GRAMMAR
            self.take([self.scheduler.reject(request_id, "broken", code)])

    def make_matcher(self, request_id: str) -> Matcher:
        return AnyText()

    def late_requests(self) -> set[str]:
        """Whose next mask is not here."""
        return set()

    @precondition(lambda self: self.requests)
    @rule(seed=st.integers(0, 2**16), num_steps=st.integers(1, 8))
    def step(self, seed: int, num_steps: int) -> None:
        chance = random.Random(seed)
        for _ in range(num_steps):
            self.now += 0.25
            plan = self.plan()
            self.oracle.compute(plan)
            if self.states:
                self.states.compute(plan)
            result = StepResult([self.compute(row, chance) for row in plan.rows])
            self.take(self.scheduler.update(plan, result))

    @precondition(lambda self: self.requests)
    @rule(is_due=st.sampled_from([True, *[False] * 7]))  # seldom: it ends all that runs
    def step_fails(self, is_due: bool) -> None:
        if not is_due:
            return self.step(seed=0, num_steps=3)
        plan = self.plan()
        self.oracle.poison(plan)
        if self.states:
            self.states.poison(plan)
        self.take(self.scheduler.fail(plan, "failed"))
        for row in plan.rows[:1]:  # clients try again, and must not find what was never computed
            self.send(replace(row.sequence.request, request_id=str(len(self.requests))))
        return None

    @precondition(lambda self: self.requests)
    @rule(choice=st.integers(0, 4 * MAX_ARRIVALS))  # mostly nobody, which must not matter
    def abort(self, choice: int) -> None:
        output = self.scheduler.abort(str(choice))
        if output is not None:
            self.take([output])

    @precondition(lambda self: self.requests)
    @rule(seconds=st.sampled_from([0.5, 2, 5]))
    def wait(self, seconds: float) -> None:
        """A slow step, or a laptop that slept."""
        self.now += seconds

    @precondition(lambda self: self.requests)
    @rule(is_due=st.sampled_from([True, False, False]))
    def reset_prefix_cache(self, is_due: bool) -> None:
        """Whoever holds blocks goes on with them, and nobody finds the others."""
        if is_due:
            self.scheduler.reset_prefix_cache()
            held = {i for s in self.scheduler._running for i in s.blocks.held()}
            assert held.issuperset(self.scheduler._pool._found.values())

    # --- one step ---

    def plan(self) -> StepPlan:
        """The next plan, checked for what every plan must be."""
        late = self.scheduler.expire()
        self.rules_between.check_late(late, self.now)
        self.take(late)
        self.take(self.scheduler.take_masks())
        waiting = self.scheduler._waiting
        states = self.scheduler._states
        has_state = not states.num_total or states.num_total - states.num_used > 1
        # As it is when somebody may be let in.
        head = waiting.peek() if len(waiting) and has_state else None
        before = list(self.scheduler._running)
        plan = self.scheduler.schedule()
        running, waiting = self.scheduler._running, self.scheduler._waiting
        assert plan.num_scheduled_tokens <= self.config.max_num_batched_tokens
        assert len(plan.rows) <= self.config.max_num_seqs
        assert all(row.start < row.real_end for row in plan.rows)
        assert all(row.real_end <= len(row.sequence.token_ids) for row in plan.rows)
        self.check_drafts(plan)
        late = self.late_requests()
        here = [s for s in running if s.request.request_id not in late]
        assert [id(row.sequence) for row in plan.rows if row.sequence in before] == [
            id(sequence) for sequence in before if sequence in here
        ], "a running sequence that was not preempted does not advance"
        assert {id(row.sequence) for row in plan.rows} == {id(s) for s in here}
        assert here or len(running) or not len(waiting), "nobody runs, and one waits"
        if self.config.admission is Admission.RESERVE:
            assert self.scheduler.stats().preemptions_total == 0
        self.rules_between.check_plan(plan, before, head, self.pool, late)
        return plan

    def check_drafts(self, plan: StepPlan) -> None:
        """Only small steps have drafts, and none that could not be part of its answer."""
        drafting = [row for row in plan.rows if row.draft_token_ids]
        assert not drafting or plan.num_scheduled_tokens <= self.config.max_tokens_with_drafts
        for row in drafting:
            sequence = row.sequence
            assert row.is_sampled
            assert row.real_end == len(sequence.token_ids)
            assert len(row.draft_token_ids) <= self.config.num_draft_tokens
            num_left = sequence.max_tokens - sequence.num_generated_tokens
            assert len(row.draft_token_ids) < num_left, "a draft that max_tokens would cut"
            assert row.end <= self.config.max_model_len

    def compute(self, row: PlanRow, chance: random.Random) -> RowResult:
        """What a model might have said about a row."""
        if chance.random() < 0.02:
            return RowResult(error="broken")
        sequence = row.sequence
        scored = sequence.token_ids[row.score_start + 1 : row.score_end + 1]
        return RowResult(
            token_ids=say(row, chance) if row.is_sampled else [],
            prompt_logprobs=[TokenLogprobs(token_id, -1.0, 1, []) for token_id in scored],
        )

    def take(self, outputs: list[StepOutput]) -> None:
        for output in outputs:
            request = self.requests[output.request_id]
            assert self.endings[output.request_id] == 0, "an output after the last"
            is_first = not self.tokens[output.request_id]
            self.tokens[output.request_id] += output.token_ids
            if output.finish_reason is not None:
                self.endings[output.request_id] += 1
                if output.request_id in self.unready:
                    self.unready.remove(output.request_id)
                self.rules_between.leave(output.request_id)
            if output.error_code in (ErrorCode.QUEUE_TIMEOUT, ErrorCode.INVALID_GRAMMAR):
                assert not self.tokens[output.request_id]
            if output.finish_reason in (None, FinishReason.STOP, FinishReason.LENGTH):
                self.check_output(request, output, is_first)

    def check_output(self, request: Request, output: StepOutput, is_first: bool) -> None:
        tokens, sampling = self.tokens[request.request_id], request.sampling
        room = self.config.max_model_len - len(request.prompt_token_ids)
        limit = min(sampling.max_tokens, room)
        has_eos = EOS in tokens[max(sampling.min_tokens - 1, 0) :] and not sampling.ignore_eos
        expected = (
            FinishReason.STOP if has_eos else FinishReason.LENGTH if len(tokens) == limit else None
        )
        assert output.finish_reason == expected
        assert output.num_cached_tokens < len(request.prompt_token_ids)
        if sampling.prompt_logprobs is not None and is_first:
            assert output.prompt_logprobs is not None
            scored = [entry.token_id for entry in output.prompt_logprobs]
            assert scored == request.prompt_token_ids[1:]
        else:
            assert output.prompt_logprobs is None

    # --- what must always hold ---

    @invariant()
    def integrity(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check_integrity()
            for sequence in self.scheduler._running:
                self.check_sequence(sequence)

    def check_sequence(self, sequence: Sequence) -> None:
        assert sequence.num_computed_tokens < len(sequence.token_ids)
        for table in sequence.blocks.tables:
            assert len(table) * self.config.block_size >= sequence.num_computed_tokens
            assert len(table) <= self.pool.num_blocks_for(len(sequence.token_ids))
        num_held = len(sequence.blocks.held())
        assert num_held <= self.config.num_blocks_of(len(sequence.token_ids))

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        while self.unready:
            self.finish_grammar(0, True)
        for seed in range(self.rules_between.max_steps + 1):
            if self.scheduler.is_empty:
                break
            self.step(seed, 1)
            self.integrity()
        assert all(self.endings[request_id] == 1 for request_id in self.requests)
        assert self.pool.num_free == self.pool.num_blocks
        stats = self.scheduler.stats()
        assert (stats.num_requests_running, stats.num_requests_waiting) == (0, 0)
        assert stats.num_blocks_used == 0
        assert self.scheduler._states.num_used == 0


def longest_text(windows: tuple[int, ...], num_blocks: int, block_size: int, num_ahead: int) -> int:
    """Of which so many blocks hold what every group has to have."""
    lengths = range(num_blocks * block_size, 0, -1)
    return next(
        length
        for length in lengths
        if sum(most_blocks(window, length, block_size, num_ahead) for window in windows)
        <= num_blocks
    )


class WindowsMachine(SchedulerMachine):
    """With layers that give back what is behind their window: alone, beside others that keep
    everything, and several groups of one kind."""

    windows = ((3,), (0, 2), (1, 5), (0, 3, 3), (0, 0, 4), (0, 1, 6))


class WindowsAndStatesMachine(WindowsMachine):
    num_states = (2, 3, 5, 9)


class StatesMachine(SchedulerMachine):
    """With a model whose layers keep a state: from the fewest rows that there may be."""

    num_states = (2, 3, 5, 9)
