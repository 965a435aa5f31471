"""What a decode step must know of each row, kept on the device from step to step.

    table   [num_slots + 1, 11 + max_blocks]    a row of words for each slot, the last is scrap
    rows    [max_num_seqs]                      which slots the next step computes, in order

All of it is one tensor of 32-bit words, so whatever the host has to tell, of any slot and field, is
a list of (place, word): one copy to the device and one `index_copy_`. In a steady state there is
nothing to tell: the step itself writes its tokens and advances its positions. The scrap slot's
blocks are the scrap block, its position stays 0: a row that only fills up a bucket reads and writes
what nobody else does. Beside it lie the counts that penalties are made of (`counts.py`).

`Slots` is the host's side: it knows what the device has been told, compares it with each plan, and
writes down the difference. Whoever left the plan (ended, preempted) gives back its slot; whoever
comes, or was computed by others meanwhile, is told anew. What is told is in the order of the
launches, so a slot or a block that changes hands is read to the end by its old owner's last step
before the words of its new owner arrive.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, auto
from struct import iter_unpack, pack

import torch
from torch import Tensor

from server.engine.counts import Texts, TokenCounts, describe_texts
from server.engine.plan import PlanRow
from server.engine.sampler import Columns, Knobs, make_knobs
from server.engine.sequence import Sequence
from server.engine.types import SamplingParams


class Word(IntEnum):
    """The fields of a slot; floats as their bits, the seed in two halves."""

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
    BLOCKS = auto()  # the first block of its block table


@dataclass(frozen=True, slots=True)
class News:
    """What the host has to tell before a launch."""

    words: Tensor | None  # [2, n] int32: places and words
    texts: Texts | None


class DeviceState:
    """The tensors. Nothing here reads a value on the host."""

    def __init__(
        self,
        num_slots: int,
        max_blocks: int,
        scrap_block: int,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self._counts = TokenCounts(num_slots, vocab_size, device)
        width = Word.BLOCKS + max_blocks
        self.num_slots, self.width, self.device = num_slots, width, device
        self.rows_start = (num_slots + 1) * width
        self._words = torch.zeros(self.rows_start + num_slots, dtype=torch.int32, device=device)
        self.table = self._words[: self.rows_start].view(num_slots + 1, width)
        self.rows = self._words[self.rows_start :]  # [num_slots]
        self.table[num_slots, Word.BLOCKS :] = scrap_block
        self.rows.fill_(num_slots)

    def apply(self, news: News) -> None:
        """Write what the host has told."""
        if news.words is not None:
            told = news.words.to(self.device, non_blocking=True)
            self._words.index_copy_(0, told[0].long(), told[1])
        self._counts.apply(news.texts)

    def columns(self, slots: Tensor) -> Columns:
        """The sampler's columns for slots [R]."""
        header = self.table[:, : Word.BLOCKS].index_select(0, slots)  # [R, BLOCKS]
        floats = header[:, Word.TEMPERATURE : Word.TOP_K].contiguous().view(torch.float32)
        low, high = (header[:, word].long() for word in (Word.SEED_LOW, Word.SEED_HIGH))
        seed = (high << 32) | (low & 0xFFFFFFFF)
        temperature, top_p, log_min_p = floats.unbind(1)
        return Columns(temperature, top_p, log_min_p, header[:, Word.TOP_K].long(), seed)

    def penalize(self, logits: Tensor, slots: Tensor) -> Tensor:
        """logits [R, vocab_size] of slots [R] -> the same with their penalties."""
        header = self.table[:, Word.REPETITION : Word.BLOCKS].index_select(0, slots)
        return self._counts.penalize(logits, slots, *header.view(torch.float32).unbind(1))

    def put_tokens(self, slots: Tensor, token_ids: Tensor) -> None:
        """The newest token of slots [R]: what the next step computes."""
        self.table[:, Word.TOKEN].index_copy_(0, slots, token_ids.int())

    def count_tokens(self, slots: Tensor, token_ids: Tensor) -> None:
        """Slots [R] have said token_ids [R]: to be called in each step that penalizes one."""
        self._counts.add(slots, token_ids)


@dataclass(slots=True)
class Told:
    """What the device knows of one sequence, once all launched steps are done."""

    slot: int
    knobs: Knobs
    is_penalized: bool
    position: int = -1
    num_blocks: int = 0
    num_preemptions: int = 0


def is_penalized(sampling: SamplingParams) -> bool:
    has_penalty = sampling.frequency_penalty or sampling.presence_penalty
    return bool(has_penalty or sampling.repetition_penalty != 1)


class Slots:
    """The host's side: sequences to slots, plans to differences."""

    def __init__(self, num_slots: int, width: int, block_size: int, vocab_size: int) -> None:
        self._width = width
        self._vocab_size = vocab_size
        self._block_size = block_size
        self._rows_start = (num_slots + 1) * width
        self._scrap = num_slots
        self._free = list(range(num_slots))[::-1]
        self._told: dict[Sequence, Told] = {}
        self._rows: list[int] = [num_slots] * num_slots
        self._news: dict[int, int] = {}  # place -> word
        self._texts: list[tuple[int, list[int], list[int]]] = []  # (slot, prompt, output)

    def follow(self, plan_rows: Iterable[PlanRow], *, is_decode: bool) -> list[Told]:
        """Bring the device up to each row's `start`; where the host computes positions (not
        `is_decode`), to its end."""
        rows = list(plan_rows)
        self._forget_all_but({row.sequence for row in rows})
        return [self._follow(row, is_decode=is_decode) for row in rows]

    def _forget_all_but(self, here: set[Sequence]) -> None:
        if len(here) == len(self._told) and self._told.keys() == here:
            return
        for sequence in self._told.keys() - here:
            slot = self._told.pop(sequence).slot
            assert slot not in self._free, f"slot {slot} is freed twice"
            self._free.append(slot)

    def _follow(self, row: PlanRow, *, is_decode: bool) -> Told:
        sequence = row.sequence
        told = self._told.get(sequence)
        if told is None:
            sampling = sequence.request.sampling
            told = Told(self._free.pop(), make_knobs(sampling), is_penalized(sampling))
            self._told[sequence] = told
            self._tell_knobs(told, sampling)
        if told.position != row.start or told.num_preemptions != sequence.num_preemptions:
            assert not row.num_pending_tokens, "nobody knows the token that is to be computed"
            self._tell(told, Word.POSITION, row.start)
            told.num_blocks, told.num_preemptions = 0, sequence.num_preemptions
            if told.is_penalized:
                self._tell_text(told, sequence)
        self._tell_blocks(told, sequence, -(-row.end // self._block_size))
        if not is_decode:
            self._tell(told, Word.POSITION, row.end)
        elif not row.num_pending_tokens:
            self._tell(told, Word.TOKEN, sequence.token_ids[row.start])
        told.position = row.end  # in a decode step the device advances by itself
        return told

    def _tell_knobs(self, told: Told, sampling: SamplingParams) -> None:
        knobs = told.knobs
        words = pack(
            "<3fiq3f",
            knobs.temperature,
            knobs.top_p,
            knobs.log_min_p,
            knobs.top_k,
            knobs.seed,
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        for field, (word,) in enumerate(iter_unpack("<i", words), start=Word.TEMPERATURE):
            self._tell(told, field, word)

    def _tell_text(self, told: Told, sequence: Sequence) -> None:
        prompt_end = sequence.num_prompt_tokens
        prompt, output = sequence.token_ids[:prompt_end], sequence.token_ids[prompt_end:]
        self._texts.append((told.slot, prompt, output))

    def _tell_blocks(self, told: Told, sequence: Sequence, num_blocks: int) -> None:
        for i in range(told.num_blocks, num_blocks):
            self._tell(told, Word.BLOCKS + i, sequence.block_table[i])
        told.num_blocks = max(told.num_blocks, num_blocks)

    def _tell(self, told: Told, field: int, word: int) -> None:
        self._news[told.slot * self._width + field] = word

    def choose_rows(self, slots: list[int], bucket: int) -> None:
        """The slots that a decode step computes, in order, filled up with scrap to the bucket."""
        rows = slots + [self._scrap] * (bucket - len(slots))
        if self._rows[:bucket] == rows:
            return
        for i, slot in enumerate(rows):
            if self._rows[i] != slot:
                self._news[self._rows_start + i] = slot
        self._rows[:bucket] = rows

    def take(self, pin: bool) -> News:
        """What is to be told before the next launch."""
        words = None
        if self._news:
            words = torch.tensor([list(self._news), list(self._news.values())], dtype=torch.int32)
            words = words.pin_memory() if pin else words
        news = News(words, describe_texts(self._texts, self._vocab_size))
        self._news, self._texts = {}, []
        return news

    def check_integrity(self) -> None:
        """Every slot is free or has one owner."""
        owned = [told.slot for told in self._told.values()]
        assert sorted([*owned, *self._free]) == list(range(len(self._rows))), "a slot is lost"
