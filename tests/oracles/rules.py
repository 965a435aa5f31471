"""What requests owe each other, counted from outside: turns, shares, deadlines, bounded waiting.

It sees requests come, plans and endings, and keeps its own books: who has had how many tokens, who
has started when. Nothing here reads the scheduler's ledger, queue order or clock.
"""

from collections import defaultdict
from collections.abc import Sequence as Seq
from collections.abc import Set

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.interface.engine_config import Admission, EngineConfig
from thirdeye.server.engine.interface.types import ErrorCode, Request, StepOutput
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import StepPlan

Key = tuple[int, str]  # priority, tenant


def key_of(request: Request) -> Key:
    return request.priority, request.tenant


class Rules:
    """Call `arrive`, `ready`, `check_late`, `check_plan`, `leave` as these things happen."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._served: defaultdict[Key, int] = defaultdict(int)
        self._computed: dict[str, int] = {}  # request -> the furthest position it ever reached
        self._open: dict[str, Request] = {}  # in order of arrival
        self._arrived_at: dict[str, float] = {}
        self._unready: set[str] = set()  # those that cannot be computed yet
        self._turns: dict[str, int] = {}  # request -> when it started: 0, 1, 2, ...
        self._num_steps = 0

    @property
    def max_steps(self) -> int:
        """Nobody starves: the most steps in which all requests so far can be unfinished.

        The first in order is never preempted and advances in every step, so it is done within
        `max_model_len` steps of becoming the first. A sequence becomes the first when the first
        ends, or when it starts with a better priority: twice at most for each request.
        """
        return 2 * len(self._arrived_at) * self._config.max_model_len

    def arrive(self, request: Request, now: float, is_ready: bool = True) -> None:
        """A tenant that was away is level with those who stayed, or keeps its debt."""
        if not is_ready:
            self._unready.add(request.request_id)
        priority = request.priority
        present = {key_of(other) for other in self._open.values() if other.priority == priority}
        if not present:
            for key in [key for key in self._served if key[0] == priority]:
                del self._served[key]
        elif (key := key_of(request)) not in present:
            least = min(self._served[other] for other in present)
            self._served[key] = max(self._served[key], least)
        self._open[request.request_id] = request
        self._arrived_at[request.request_id] = now

    def ready(self, request_id: str) -> None:
        """It has its place by its arrival, and takes nobody's turn before this."""
        self._unready.remove(request_id)

    def leave(self, request_id: str) -> None:
        del self._open[request_id]
        self._unready.discard(request_id)

    # --- deadlines ---

    def check_late(self, outputs: list[StepOutput], now: float) -> None:
        """Exactly those are late whose time is up."""
        got = {output.request_id: output.error_code for output in outputs}
        expected = {
            request_id: code for request_id in self._open if (code := self._missed(request_id, now))
        }
        assert got == expected, "late are others than those whose time is up"

    def _missed(self, request_id: str, now: float) -> ErrorCode | None:
        age = now - self._arrived_at[request_id]
        is_started = request_id in self._turns
        if self._config.queue_timeout and not is_started and age >= self._config.queue_timeout:
            return ErrorCode.QUEUE_TIMEOUT
        if self._config.request_timeout and age >= self._config.request_timeout:
            return ErrorCode.REQUEST_TIMEOUT
        return None

    # --- turns and shares ---

    def check_plan(
        self,
        plan: StepPlan,
        before: Seq[Sequence],
        head: Sequence | None,
        pool: BlockPool,
        late: Set[str] = frozenset(),
    ) -> None:
        """`before` ran before this step, `head` is next of those that still wait after it; `late`
        are those whose mask is not here."""
        self._num_steps += bool(plan.rows)
        assert self._num_steps <= self.max_steps, "somebody starves"
        rows = {row.sequence.request.request_id: row for row in plan.rows}
        old = [s for s in before if s.request.request_id in rows]
        admitted = [row.sequence for row in plan.rows if row.sequence not in before]
        assert self._unready.isdisjoint(rows), "computed before it is ready"
        assert late.isdisjoint(rows), "computed before its mask is here"
        self._check_turns(admitted, rows.keys() | late)
        self._check_budget(plan, old, admitted)
        num_late = sum(s.request.request_id in late for s in before if s.block_table)
        if head is not None and len(old) + num_late == len(before) and not admitted:
            self._check_turned_away(plan, head, old, pool, num_late)
        self._count(plan)

    def _check_turns(self, admitted: list[Sequence], scheduled: Seq[str] | set[str]) -> None:
        started = {s.request.request_id for s in admitted}
        back = sorted(started & self._turns.keys(), key=self._place)
        new = [s.request.request_id for s in admitted if s.request.request_id not in self._turns]
        waiting = [r for r in self._open if r not in scheduled and r not in self._unready]
        for request_id in waiting:
            for other in started:
                assert not self._is_before(request_id, other), f"{other} goes before {request_id}"
        if new and not back:
            self._check_share(new, waiting)
        for request_id in new:  # in the plan's order, which is that of their admission
            self._turns[request_id] = len(self._turns)

    def _place(self, request_id: str) -> tuple[int, int]:
        return self._open[request_id].priority, self._turns[request_id]

    def _is_before(self, one: str, other: str) -> bool:
        """Whether `one` must never be passed by `other`."""
        a, b = self._open[one], self._open[other]
        if a.priority != b.priority:
            return a.priority < b.priority
        if one in self._turns:
            return other not in self._turns or self._turns[one] < self._turns[other]
        is_first = self._arrival(one) < self._arrival(other)
        return other not in self._turns and a.tenant == b.tenant and is_first

    def _arrival(self, request_id: str) -> int:
        return list(self._arrived_at).index(request_id)

    def _check_share(self, new: list[str], waiting: list[str]) -> None:
        """The first to be let in is of a tenant that has had least, of all that waited."""
        best = min(self._open[request_id].priority for request_id in new)
        shares = {self._served[key_of(self._open[r])] for r in new if self._is_at(r, best)}
        others = {self._served[key_of(self._open[r])] for r in waiting if self._is_at(r, best)}
        assert min(shares) <= min(others, default=min(shares)), "a tenant gets more than its share"

    def _is_at(self, request_id: str, priority: int) -> bool:
        return self._open[request_id].priority == priority and request_id not in self._turns

    def _count(self, plan: StepPlan) -> None:
        for row in plan.rows:
            request = row.sequence.request
            reached = max(row.start, self._computed.get(request.request_id, 0))
            self._served[key_of(request)] += max(0, row.real_end - reached)  # drafts are free
            self._computed[request.request_id] = max(row.real_end, reached)

    # --- the budget ---

    def _check_budget(self, plan: StepPlan, old: list[Sequence], admitted: list[Sequence]) -> None:
        """Each of those behind gets all it needs where that is left, else half of what is left.

        Those before it that are not done left half of what they found, those that are done in this
        step took what they needed: a prompt holds up the next ones once, in its last step.
        """
        given = {row.sequence: row.num_scheduled_tokens for row in plan.rows}
        num_before = num_taken = 0
        for sequence in old:
            num_needed = sequence.num_uncomputed_tokens
            left = max(0, self._left(old, num_before, num_taken))
            least = num_needed if num_needed - 1 <= left else 1 + left // 2
            assert given[sequence] >= least, f"one gets {given[sequence]}, not {least}"
            if given[sequence] < num_needed:
                num_before += 1
            else:
                num_taken += num_needed - 1
        if any(given[s] < s.num_uncomputed_tokens for s in old + admitted):
            is_spent = plan.num_scheduled_tokens == self._config.max_num_batched_tokens
            assert is_spent, "somebody needs a token that nobody got"

    def _left(self, old: list[Sequence], num_unfinished: int, num_taken: int) -> int:
        """The least that is left of a step's spare tokens by some of those that are behind."""
        spare = self._config.max_num_batched_tokens - len(old)
        return spare // 2**num_unfinished - num_taken

    def _check_turned_away(
        self, plan: StepPlan, head: Sequence, old: list[Sequence], pool: BlockPool, num_late: int
    ) -> None:
        """Nobody was let in: there must have been no row, no token or no block for the next."""
        given = {row.sequence: row.num_scheduled_tokens for row in plan.rows}
        needed = {s: s.num_uncomputed_tokens for s in old}
        num_unfinished = sum(given[s] < needed[s] for s in old)
        num_taken = sum(needed[s] - 1 for s in old if given[s] >= needed[s])
        has_row = len(old) + num_late < self._config.max_num_seqs
        has_token = self._left(old, num_unfinished, num_taken) > 0
        num_blocks = self._config.num_blocks_of(len(head.token_ids))
        num_blocks += (len(old) + num_late) * len(self._config.windows)
        is_plain = self._config.admission is Admission.PREEMPT
        has_blocks = is_plain and num_blocks <= pool.num_free
        assert not (has_row and has_token and has_blocks), "it is turned away for nothing"
