"""What a decode step must know of each row, kept on the device from step to step.

    table   [num_slots + 1, 16 + max_blocks]     a row of words for each slot, the last is scrap;
                                                 so many blocks for each group of layers
    rows    [num_rows]                           which slots the next step computes, in order
    offsets [num_rows]                           how far behind their newest tokens; 0: these
    drafts  [num_rows]                           the tokens there, where that is not 0
    ends    [num_slots + 1, num_ends]            tokens held back until `min_tokens` are there
    biases  [num_slots + 1, 2, MAX_BIASES]       token ids, and the bits of what is added to them

All of it is one tensor of 32-bit words, so whatever the host has to tell, of any slot and field, is
a list of (place, word): one copy to the device and one `index_copy_`. In a steady state there is
nothing to tell: the step itself writes its tokens and advances its positions. Where it verifies
guesses, each of them is a row of its own behind that of its slot's newest token, and the step finds
out by itself how far the slot goes on (`accept`). The scrap slot's
blocks are the scrap block, its position stays 0: a row that only fills up a bucket reads and writes
what nobody else does. Beside it lie the counts that penalties are made of
(`device_penalties.py`) and the masks of grammars (`device_bitmask.py`).

Who has which slot, and what has been told of it, is the host's side: `slot_table.py`.
"""

from dataclasses import dataclass
from enum import IntEnum, auto

import torch
from torch import Tensor

from thirdeye.model.state.state_cache import ZEROS
from thirdeye.server.engine.run_ahead.device_biases import (
    MAX_BIASES,
    MAX_STOPS,
    add_biases,
    hold_back,
)
from thirdeye.server.engine.run_ahead.device_bitmask import SlotMasks, mask_logits
from thirdeye.server.engine.run_ahead.device_penalties import CountsUpdate, TokenCounts
from thirdeye.server.engine.sampling.sampler import DrawColumns


class SlotField(IntEnum):
    """The fields of a slot, a word each; floats as their bits, the seed in two halves."""

    TOKEN = 0  # the newest token, which the next step computes
    POSITION = auto()  # where it stands
    TEMPERATURE = auto()
    TOP_P = auto()
    LOG_MIN_P = auto()
    TOP_K = auto()
    SEED_LOW = auto()
    SEED_HIGH = auto()
    REPETITION = auto()
    FREQUENCY = auto()
    PRESENCE = auto()
    FIRST_END = auto()  # the first position at which the answer may end; 0: anywhere
    NUM_BIASES = auto()
    HAS_GRAMMAR = auto()
    STATE_SOURCE = auto()  # of a model whose layers keep states: the row that a step goes on from,
    STATE_TARGET = auto()  # and the one into which it does
    BLOCKS = 16  # the first block of its block table, at a multiple of 16 bytes as kernels want it


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Where each word lies."""

    num_slots: int
    max_blocks: int  # of one sequence
    num_eos: int
    num_groups: int = 1  # of layers, each with a block table of its own
    most_rows_verified: int = 0  # of a step that verifies guesses, in all

    @property
    def num_rows(self) -> int:
        """Most of a step."""
        return max(self.num_slots, self.most_rows_verified)

    @property
    def width(self) -> int:
        """Of the table."""
        return SlotField.BLOCKS + self.num_groups * self.table_words

    @property
    def table_words(self) -> int:
        """Of one block table; of several each begins at a multiple of 16 bytes."""
        return self.max_blocks if self.num_groups == 1 else -(-self.max_blocks // 4) * 4

    @property
    def rows(self) -> int:
        return (self.num_slots + 1) * self.width

    @property
    def offsets(self) -> int:
        return self.rows + self.num_rows

    @property
    def drafts(self) -> int:
        return self.offsets + self.num_rows

    @property
    def num_ends(self) -> int:
        return max(1, self.num_eos + MAX_STOPS)

    @property
    def ends(self) -> int:
        return self.drafts + self.num_rows

    @property
    def biases(self) -> int:
        return self.ends + (self.num_slots + 1) * self.num_ends

    @property
    def num_words(self) -> int:
        return self.biases + (self.num_slots + 1) * 2 * MAX_BIASES


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """What the host has to tell before a launch."""

    words: Tensor | None  # [2, n] int32: places and words
    texts: CountsUpdate | None


class DeviceState:
    """The tensors. Nothing here reads a value on the host."""

    def __init__(
        self,
        layout: StateLayout,
        scrap_block: int,
        vocab_size: int,
        device: torch.device,
        scrap_state: int | None = None,
    ) -> None:
        """`scrap_state`: a row that nobody else has, where layers keep states; None: none does."""
        num_slots = layout.num_slots
        self._counts = TokenCounts(num_slots, vocab_size, device)
        self.masks = SlotMasks(num_slots, vocab_size, device)
        self.num_slots, self.device = num_slots, device
        self.num_groups, self.num_rows = layout.num_groups, layout.num_rows
        self.most_rows_verified = layout.most_rows_verified
        self._words = torch.zeros(layout.num_words, dtype=torch.int32, device=device)
        table, rows, offsets, drafts, ends, biases = self._words.tensor_split(
            [layout.rows, layout.offsets, layout.drafts, layout.ends, layout.biases]
        )
        self.table = table.view(num_slots + 1, layout.width)
        self.rows, self.offsets, self.drafts = rows, offsets, drafts  # [num_rows] each
        self._ends = ends.view(num_slots + 1, layout.num_ends)
        self._biases = biases.view(num_slots + 1, 2, MAX_BIASES)
        self.table[num_slots, SlotField.BLOCKS :] = scrap_block
        self.rows.fill_(num_slots)
        self.has_states = scrap_state is not None
        if scrap_state is not None:
            self.table[num_slots, SlotField.STATE_SOURCE] = ZEROS
            self.table[num_slots, SlotField.STATE_TARGET] = scrap_state

    def apply(self, update: StateUpdate) -> None:
        """Write what the host has told."""
        if update.words is not None:
            words = update.words.to(self.device, non_blocking=True)
            self._words.index_copy_(0, words[0].long(), words[1])
        self._counts.apply(update.texts)

    def draw_columns(self, slots: Tensor) -> DrawColumns:
        """The sampler's columns for slots [R]."""
        header = self.table[:, : SlotField.BLOCKS].index_select(0, slots)  # [R, BLOCKS]
        floats = header[:, SlotField.TEMPERATURE : SlotField.TOP_K].contiguous().view(torch.float32)
        low, high = (header[:, word].long() for word in (SlotField.SEED_LOW, SlotField.SEED_HIGH))
        seed = (high << 32) | (low & 0xFFFFFFFF)
        temperature, top_p, log_min_p = floats.unbind(1)
        return DrawColumns(temperature, top_p, log_min_p, header[:, SlotField.TOP_K].long(), seed)

    def mask(self, logits: Tensor, slots: Tensor) -> Tensor:
        """logits [R, vocab_size] of slots [R] -> the same, with what grammars leave of them."""
        return mask_logits(
            logits, self.masks.of(slots), self._word(SlotField.HAS_GRAMMAR, slots) != 0
        )

    def bias(self, logits: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
        """logits [R, vocab_size] for the tokens at `positions` [R] of slots [R] -> the same without
        ends that come too early, and with their biases."""
        is_early = positions < self._word(SlotField.FIRST_END, slots)
        has_grammar = self._word(SlotField.HAS_GRAMMAR, slots) != 0
        ends = self._ends.index_select(0, slots).long()  # [R, E]
        logits = hold_back(logits, ends, is_early, has_grammar)
        token_ids, values = self._biases.index_select(0, slots).unbind(1)  # [R, MAX_BIASES] each
        counts = self._word(SlotField.NUM_BIASES, slots)
        return add_biases(logits, token_ids.long(), values.view(torch.float32), counts)

    def _word(self, word: SlotField, slots: Tensor) -> Tensor:
        """One field of slots [R]."""
        return self.table[:, word].index_select(0, slots)

    def penalize(self, logits: Tensor, slots: Tensor) -> Tensor:
        """logits [R, vocab_size] of slots [R] -> the same with their penalties."""
        header = self.table[:, SlotField.REPETITION : SlotField.FIRST_END].index_select(0, slots)
        return self._counts.penalize(logits, slots, *header.view(torch.float32).unbind(1))

    def put_tokens(self, slots: Tensor, token_ids: Tensor) -> None:
        """The newest token of slots [R]: what the next step computes."""
        self.table[:, SlotField.TOKEN].index_copy_(0, slots, token_ids.int())

    def advance(self, slots: Tensor) -> None:
        """Slots [R] stand one position further; scrap stays where it is."""
        is_real = slots != self.num_slots
        self.table[:, SlotField.POSITION].index_add_(0, slots, is_real.int())

    def accept(self, slots: Tensor, positions: Tensor, chosen: Tensor) -> None:
        """What was chosen in the rows of `slots` [R], chosen [R, 2], behind the tokens at
        `positions` [R] -> the slots go on: behind their last row that counts.

        A draft counts if the row before it has chosen just that, that row counts too, and its own
        logits are numbers. The twin of `accept_kernel`.
        """
        offsets, drafts = self.offsets[: len(slots)], self.drafts[: len(slots)]
        is_first = offsets == 0
        is_right = (drafts == chosen[:, 1].roll(1)) & (chosen[:, 0] != 0)
        num_wrong = (~(is_first | is_right)).long().cumsum(0)  # [R]
        firsts = torch.arange(len(slots), device=slots.device) - offsets
        counts = num_wrong == num_wrong.index_select(0, firsts)
        is_last = counts & ~(counts & ~is_first).roll(-1)
        owners = slots.where(is_last, self.num_slots)  # all others write to the scrap slot
        is_real = owners != self.num_slots
        self.put_tokens(owners, chosen[:, 1])
        ends = (positions + 1).where(is_real, 0).int()
        self.table[:, SlotField.POSITION].index_copy_(0, owners, ends)

    def count_tokens(self, slots: Tensor, token_ids: Tensor) -> None:
        """Slots [R] have said token_ids [R]: to be called in each step that penalizes one."""
        self._counts.add(slots, token_ids)
