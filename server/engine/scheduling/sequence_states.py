"""Which row of the state cache each sequence goes on with, and of which states snapshots are kept.

A running sequence has one row of its own, from its admission to its end. What a step computes of it
is cut into spans (`StateSpan`), each from a row into a row, so nothing is ever copied:

    a prefix hit       snapshot -> own
    a snapshot         own -> a new row -> own: cut at the block's end, in the midst of the step
    drafts             one span each, into a row each: the last that was right becomes its own

A prefix hit is as long as the longest known prefix whose blocks are there and whose state is, too:
one without the other is of no use. Snapshots are kept of three places, each the end of a block: of
the last in a prompt, for the same again; of the last in an answer, for the next turn of the chat;
and of where a prompt leaves a known prefix whose state nobody kept, since two have come that way.
They are made of rows that nobody holds and are lost, least recently used first, to whoever needs
one: the cache's bytes are fixed. The scheduler sees rows; what a state is, is the model's matter.

A step that is launched before the last one is read moves its sequences' states at once: the device
works in order, so a row that changes hands is read to the end before its new owner writes. What it
keeps can be found once it was read, when the tokens are known.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.cache.state_pool import NO_COUNTS, StateCounts, StatePool
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.scheduling.sequence import Sequence, SequenceState
from thirdeye.server.engine.scheduling.step_plan import ZEROS, PlanRow, StateSpan


class States(Protocol):
    """What the scheduler asks. Who is asked last of a row of a plan: `settle`, or `drop`."""

    @property
    def num_total(self) -> int: ...

    @property
    def num_used(self) -> int: ...

    def counts(self) -> StateCounts: ...

    def usable(self, sequence: Sequence, num_blocks: int) -> int:
        """How many of the blocks that were found may be used, which are a prefix."""

    def can_start(self, sequence: Sequence, num_found: int) -> bool:
        """Whether there is a row for one that goes on behind so many found blocks."""

    def start(self, sequence: Sequence, num_found: int) -> None:
        """Take it; `can_start` said yes."""

    def stop(self, sequence: Sequence) -> None:
        """It runs no longer: give all of it back."""

    def plan(self, row: PlanRow) -> PlanRow:
        """With spans for its real tokens."""

    def num_drafts(self, limit: int) -> int:
        """How many drafts a row may have, of `limit`."""

    def draft_spans(self, row: PlanRow, num_drafts: int) -> tuple[StateSpan, ...]:
        """The planned row's spans and those of so many drafts behind its real tokens."""

    def launched(self, row: PlanRow) -> None:
        """A row is being computed, and the next plan goes on behind it."""

    def settle(self, row: PlanRow, num_accepted: int) -> None:
        """A row was computed, and so many of its drafts were right."""

    def drop(self, row: PlanRow) -> None:
        """A row whose sequence has ended, or runs no more."""

    def reset(self) -> None:
        """Let nothing be found that nobody holds."""

    def check_all_free(self) -> None: ...

    def check_integrity(self, running: Iterable[Sequence]) -> None: ...


class NoStates:
    """For models whose layers all keep keys and values."""

    num_total = num_used = 0

    def counts(self) -> StateCounts:
        return NO_COUNTS

    def usable(self, sequence: Sequence, num_blocks: int) -> int:  # noqa: ARG002
        return num_blocks

    def can_start(self, sequence: Sequence, num_found: int) -> bool:  # noqa: ARG002
        return True

    def start(self, sequence: Sequence, num_found: int) -> None: ...

    def stop(self, sequence: Sequence) -> None: ...

    def plan(self, row: PlanRow) -> PlanRow:
        return row

    def num_drafts(self, limit: int) -> int:
        return limit

    def draft_spans(self, row: PlanRow, num_drafts: int) -> tuple[StateSpan, ...]:  # noqa: ARG002
        return ()

    def launched(self, row: PlanRow) -> None: ...

    def settle(self, row: PlanRow, num_accepted: int) -> None: ...

    def drop(self, row: PlanRow) -> None: ...

    def reset(self) -> None: ...

    def check_all_free(self) -> None: ...

    def check_integrity(self, running: Iterable[Sequence]) -> None: ...


class SequenceStates:
    """`keeps_snapshots`: whether there is a prefix cache."""

    def __init__(self, pool: StatePool, blocks: BlockPool, *, keeps_snapshots: bool) -> None:
        self._pool, self._blocks = pool, blocks
        self._keeps_snapshots = keeps_snapshots
        self._hits = self._missed_tokens = 0
        self._in_flight: list[int] = []  # rows that launched steps hold until they are read

    @property
    def num_total(self) -> int:
        return self._pool.num_states

    @property
    def num_used(self) -> int:
        return self._pool.num_states - self._pool.num_free

    def counts(self) -> StateCounts:
        pool = self._pool
        return StateCounts(self.num_used, pool.num_snapshots, self._hits, self._missed_tokens)

    # --- sequences come and go ---

    def usable(self, sequence: Sequence, num_blocks: int) -> int:
        hashes, num = sequence.block_hashes, num_blocks
        while num and self._pool.find(hashes[num - 1]) is None:
            num -= 1
        sequence.branch = num_blocks * self._blocks.block_size if num < num_blocks else 0
        return num

    def can_start(self, sequence: Sequence, num_found: int) -> bool:
        source = self._snapshot(sequence, num_found)
        is_taken_too = source is not None and self._pool.is_free(source)
        return self._pool.num_free >= 1 + is_taken_too

    def start(self, sequence: Sequence, num_found: int) -> None:
        source = self._snapshot(sequence, num_found)
        if source is not None:
            self._pool.share(source)  # first, or the row that is taken could be this one
            self._hits += 1
        if sequence.branch:
            self._missed_tokens += sequence.branch - num_found * self._blocks.block_size
        own = self._pool.allocate()
        assert own is not None
        sequence.state = SequenceState(own, ZEROS if source is None else source)

    def _snapshot(self, sequence: Sequence, num_found: int) -> int | None:
        return self._pool.find(sequence.block_hashes[num_found - 1]) if num_found else None

    def stop(self, sequence: Sequence) -> None:
        if sequence.state is not None:
            for row in _held(sequence.state):
                self._pool.free(row)
        sequence.state = None

    # --- before a step ---

    def plan(self, row: PlanRow) -> PlanRow:
        state = row.sequence.state
        assert state is not None, "it has no state to go on with"
        spans: list[StateSpan] = []
        source = state.current
        for end in self._ends_to_keep(row):
            new = self._pool.allocate()
            if new is None:
                break  # all rows are held: it goes without
            spans.append(StateSpan(end, source, new, is_taken=True))
            source = new
        if not spans or spans[-1].end < row.real_end:
            spans.append(StateSpan(row.real_end, source, state.own))
        return replace(row, state_spans=tuple(spans))

    def _ends_to_keep(self, row: PlanRow) -> Iterator[int]:
        """Positions within the row, each the end of a block, whose state is kept."""
        sequence, size = row.sequence, self._blocks.block_size
        if not self._keeps_snapshots or row.start // size == row.real_end // size:
            return
        wanted = {sequence.branch, (sequence.num_prompt_tokens - 1) // size * size}
        last = row.real_end // size * size
        if last > sequence.num_prompt_tokens:
            wanted.add(last)
        for end in sorted(end for end in wanted if row.start < end <= row.real_end):
            is_pending = end > len(sequence.token_ids)  # nobody knows yet what it is the state of
            if is_pending or self._pool.find(self._hash_behind(sequence, end)) is None:
                yield end

    def _hash_behind(self, sequence: Sequence, end: int) -> bytes:
        """Of the block that ends at this position."""
        hashes, cache_salt = sequence.block_hashes, sequence.request.prefix_salt
        self._blocks.extend_hashes(hashes, sequence.token_ids, cache_salt)
        return hashes[end // self._blocks.block_size - 1]

    def num_drafts(self, limit: int) -> int:
        return min(limit, self._pool.num_free)

    def draft_spans(self, row: PlanRow, num_drafts: int) -> tuple[StateSpan, ...]:
        spans = list(row.state_spans)
        for end in range(row.real_end + 1, row.real_end + num_drafts + 1):
            new = self._pool.allocate()
            assert new is not None, "more drafts than rows"
            spans.append(StateSpan(end, spans[-1].target, new, is_taken=True))
        return tuple(spans)

    # --- after a step ---

    def launched(self, row: PlanRow) -> None:
        assert not row.draft_token_ids, "how many are right is known once they are computed"
        self._move(row, 0)
        self._in_flight += [span.target for span in row.state_spans if span.is_taken]

    def _move(self, row: PlanRow, num_accepted: int) -> None:
        """The sequence goes on with the state that the row leaves."""
        state = row.sequence.state
        assert state is not None
        before, end = _held(state), row.real_end + num_accepted
        final = next(span for span in row.state_spans if span.end == end)
        if final.is_taken:
            self._pool.share(final.target)  # held by the sequence now, and by the step as before
        if num_accepted:
            state.own = final.target
        state.current = final.target
        for held in before - _held(state):
            self._pool.free(held)

    def settle(self, row: PlanRow, num_accepted: int) -> None:
        sequence = row.sequence
        if sequence.num_launched_tokens < row.real_end:  # else it was moved then
            self._move(row, num_accepted)
        assert sequence.state is not None
        for span in row.state_spans:
            if span.is_taken and span.end <= row.real_end:
                self._publish(sequence, sequence.state, span)
        self._let_go(row)

    def _publish(self, sequence: Sequence, state: SequenceState, span: StateSpan) -> None:
        block_hash = self._hash_behind(sequence, span.end)
        self._pool.publish(span.target, block_hash)
        is_of_answer = span.end > sequence.num_prompt_tokens and span.end != sequence.branch
        if is_of_answer and self._pool.find(block_hash) == span.target:
            if state.answer_hash is not None:
                self._pool.forget(state.answer_hash)
            state.answer_hash = block_hash

    def drop(self, row: PlanRow) -> None:
        self._let_go(row)

    def _let_go(self, row: PlanRow) -> None:
        """Of what the row's step holds."""
        for span in row.state_spans:
            if span.is_taken:
                self._pool.free(span.target)
                if span.target in self._in_flight:
                    self._in_flight.remove(span.target)

    def reset(self) -> None:
        self._pool.forget_unheld()

    # --- what must always hold ---

    def check_all_free(self) -> None:
        """When nothing runs."""
        self._pool.check_all_free()

    def check_integrity(self, running: Iterable[Sequence]) -> None:
        """Between steps, every row is held by running sequences and steps in flight alone."""
        states = [sequence.state for sequence in running]
        assert None not in states, "one runs without a state"
        held = [list(_held(state)) for state in states if state is not None]
        self._pool.check_integrity([*held, *[[row] for row in self._in_flight]])


def make_states(config: EngineConfig, pool: BlockPool) -> States:
    """For the layers that keep a state, if there are any."""
    if not config.num_states:
        return NoStates()
    states = StatePool(config.num_states)
    return SequenceStates(states, pool, keeps_snapshots=config.enable_prefix_caching)


def _held(state: SequenceState) -> set[int]:
    return {state.own, state.current} - {ZEROS}
