"""Who has which slot, and what the device has been told of it: the host's side of the state.

`SlotTable` compares what the device has been told with each plan, and writes down the difference.
Whoever left the plan (ended, preempted) gives back its slot; whoever comes, or was computed by
others meanwhile, is told anew. What is told is in the order of the launches, so a slot or a block
that changes hands is read to the end by its old owner's last step before the words of its new owner
arrive.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from struct import iter_unpack, pack, unpack

import torch

from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.engine.run_ahead.device_biases import MAX_BIASES, end_token_ids
from thirdeye.server.engine.run_ahead.device_penalties import make_counts_update
from thirdeye.server.engine.run_ahead.device_state import SlotField, StateLayout, StateUpdate
from thirdeye.server.engine.sampling.sampler import DrawParams, make_draw_params
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow

AFLOAT = -2

# Of a step: a slot, how far behind its newest token, and the token there.
RowPlace = tuple[int, int, int]


@dataclass(slots=True)
class SlotState:
    """What the device knows of one sequence, once all launched steps are done. Behind one that
    verifies guesses the device alone knows the position: `AFLOAT`."""

    slot: int
    draw_params: DrawParams
    is_penalized: bool
    first_end: int  # the first position at which it may end; 0: anywhere
    position: int = -1
    num_blocks: tuple[int, ...] = ()  # by group of layers
    num_preemptions: int = 0
    state_rows: tuple[int, int] | None = None  # source and target, as it was last told

    def holds_back(self, position: int) -> bool:
        """Whether the token at `position` must not be an end."""
        return position < self.first_end


def first_end(sequence: Sequence, eos_token_ids: Seq[int]) -> int:
    sampling = sequence.request.sampling
    if not end_token_ids(sampling, eos_token_ids):
        return 0
    return sequence.num_prompt_tokens + min(sampling.min_tokens, sequence.max_tokens)


class SlotTable:
    """The host's side: sequences to slots, plans to differences."""

    def __init__(
        self, layout: StateLayout, block_size: int, vocab_size: int, eos_token_ids: Seq[int]
    ) -> None:
        num_slots = layout.num_slots
        self._layout = layout
        self._vocab_size = vocab_size
        self._block_size = block_size
        self._eos_token_ids = eos_token_ids
        self._scrap = num_slots
        self._free = list(range(num_slots))[::-1]
        self._states: dict[Sequence, SlotState] = {}
        self._rows: list[RowPlace] = [(num_slots, 0, 0)] * layout.num_rows
        self._words: dict[int, int] = {}  # place -> word
        self._texts: list[tuple[int, list[int], list[int]]] = []  # (slot, prompt, output)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._states

    def sync(
        self, plan_rows: Iterable[PlanRow], *, is_decode: bool, are_placed: bool = False
    ) -> list[SlotState]:
        """Bring the device up to each row's `start`; where the host computes positions (not
        `is_decode`), to its end. `are_placed`: tokens and positions come from elsewhere."""
        rows = list(plan_rows)
        self._forget_all_but({row.sequence for row in rows})
        return [self._sync(row, is_decode=is_decode, is_placed=are_placed) for row in rows]

    def _forget_all_but(self, here: set[Sequence]) -> None:
        if len(here) == len(self._states) and self._states.keys() == here:
            return
        for sequence in [known for known in self._states if known not in here]:  # in order
            slot = self._states.pop(sequence).slot
            assert slot not in self._free, f"slot {slot} is freed twice"
            self._free.append(slot)

    def _sync(self, row: PlanRow, *, is_decode: bool, is_placed: bool) -> SlotState:
        sequence = row.sequence
        state = self._states.get(sequence)
        if state is None:
            sampling = sequence.request.sampling
            state = SlotState(
                self._free.pop(),
                make_draw_params(sampling),
                sampling.is_penalized,
                first_end(sequence, self._eos_token_ids),
            )
            self._states[sequence] = state
            self._write_draw_params(state, sequence)
            self._write_biases(state, sampling)
        is_known = state.num_preemptions == sequence.num_preemptions
        is_right = is_placed or state.position == row.start
        if row.num_pending_tokens:  # what is in flight brings the device there
            is_right |= state.position == AFLOAT
        if not (is_known and is_right):
            assert not row.num_pending_tokens, "nobody knows the token that is to be computed"
            self._write(state, SlotField.POSITION, row.start)
            state.num_blocks, state.num_preemptions = (), sequence.num_preemptions
            if state.is_penalized:
                self._write_text(state, sequence)
        self._write_blocks(state, row)
        is_afloat = bool(row.num_uncertain or row.draft_token_ids)
        if not is_decode:
            if not is_afloat:
                self._write(state, SlotField.POSITION, row.end)
        elif not row.num_pending_tokens:
            self._write(state, SlotField.TOKEN, sequence.token_ids[row.start])
        if is_decode and row.state_spans:
            self._write_state_rows(state, row)
        # In a decode step the device advances by itself, as one that is afloat does in each.
        state.position = AFLOAT if is_afloat else row.end
        return state

    def _write_state_rows(self, state: SlotState, row: PlanRow) -> None:
        """Where a step of one token goes on from, and into. It changes where one is kept."""
        (span,) = row.state_spans
        if state.state_rows != (span.source, span.target):
            self._write(state, SlotField.STATE_SOURCE, span.source)
            self._write(state, SlotField.STATE_TARGET, span.target)
            state.state_rows = (span.source, span.target)

    def _write_draw_params(self, state: SlotState, sequence: Sequence) -> None:
        draw_params, sampling = state.draw_params, sequence.request.sampling
        words = pack(
            "<3fiq3f3i",
            draw_params.temperature,
            draw_params.top_p,
            draw_params.log_min_p,
            draw_params.top_k,
            draw_params.seed,
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
            state.first_end,
            len(sampling.logit_bias),
            sequence.request.is_constrained,
        )
        for field, (word,) in enumerate(iter_unpack("<i", words), start=SlotField.TEMPERATURE):
            self._write(state, field, word)

    def _write_biases(self, state: SlotState, sampling: SamplingParams) -> None:
        ends = end_token_ids(sampling, self._eos_token_ids)
        start = self._layout.ends + state.slot * self._layout.num_ends
        for i in range(self._layout.num_ends if state.first_end else 0):
            self._words[start + i] = ends[i % len(ends)]  # all of them count: some are there twice
        start = self._layout.biases + state.slot * 2 * MAX_BIASES
        for i, (token_id, bias) in enumerate(sampling.logit_bias.items()):
            (self._words[start + MAX_BIASES + i],) = unpack("<i", pack("<f", bias))
            self._words[start + i] = token_id

    def _write_text(self, state: SlotState, sequence: Sequence) -> None:
        prompt_end = sequence.num_prompt_tokens
        prompt, output = sequence.token_ids[:prompt_end], sequence.token_ids[prompt_end:]
        self._texts.append((state.slot, prompt, output))

    def _write_blocks(self, state: SlotState, row: PlanRow) -> None:
        """Of what lies behind a window the device keeps what it was told: nobody reads it. Blocks
        that guesses alone may need can be given back, so the next ones are told anew."""
        num_blocks = -(-row.end_at_most // self._block_size)
        blocks, size = row.sequence.blocks, self._layout.table_words
        known = state.num_blocks or (0,) * len(blocks.tables)
        for group, table in enumerate(blocks.tables):
            first = SlotField.BLOCKS + group * size
            for i in range(max(known[group], blocks.num_behind[group]), num_blocks):
                self._write(state, first + i, table[i])
        num_certain = -(-row.real_end // self._block_size)
        state.num_blocks = tuple([max(num, num_certain) for num in known])

    def _write(self, state: SlotState, field: int, word: int) -> None:
        self._words[state.slot * self._layout.width + field] = word

    def set_rows(self, places: list[RowPlace], bucket: int) -> None:
        """What a decode step computes, in order, filled up with scrap to the bucket."""
        rows = places + [(self._scrap, 0, 0)] * (bucket - len(places))
        if self._rows[:bucket] == rows:
            return
        starts = self._layout.rows, self._layout.offsets, self._layout.drafts
        for i, (known, row) in enumerate(zip(self._rows, rows, strict=False)):
            if known != row:
                for start, old, new in zip(starts, known, row, strict=True):
                    if old != new:
                        self._words[start + i] = max(new, 0)  # an `UNREAD` one comes later
        self._rows[:bucket] = rows

    def pop_update(self, pin: bool) -> StateUpdate:
        """What is to be written before the next launch."""
        words = None
        if self._words:
            words = torch.tensor([list(self._words), list(self._words.values())], dtype=torch.int32)
            words = words.pin_memory() if pin else words
        update = StateUpdate(words, make_counts_update(self._texts, self._vocab_size, pin=pin))
        self._words, self._texts = {}, []
        return update

    def check_integrity(self) -> None:
        """Every slot is free or has one owner."""
        owned = [state.slot for state in self._states.values()]
        assert sorted([*owned, *self._free]) == list(range(self._scrap)), "a slot is lost"
