"""Who has which slot, and what the device has been told of it: the host's side of `state.py`.

`Slots` compares what the device has been told with each plan, and writes down the difference.
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
from thirdeye.server.engine.run_ahead.device_penalties import describe_texts
from thirdeye.server.engine.run_ahead.device_state import Layout, News, Word
from thirdeye.server.engine.sampling.sampler import Knobs, make_knobs
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.step_plan import PlanRow


@dataclass(slots=True)
class Told:
    """What the device knows of one sequence, once all launched steps are done."""

    slot: int
    knobs: Knobs
    is_penalized: bool
    first_end: int  # the first position at which it may end; 0: anywhere
    position: int = -1
    num_blocks: int = 0
    num_preemptions: int = 0

    def holds_back(self, position: int) -> bool:
        """Whether the token at `position` must not be an end."""
        return position < self.first_end


def is_penalized(sampling: SamplingParams) -> bool:
    has_penalty = sampling.frequency_penalty or sampling.presence_penalty
    return bool(has_penalty or sampling.repetition_penalty != 1)


def first_end(sequence: Sequence, eos_token_ids: Seq[int]) -> int:
    sampling = sequence.request.sampling
    if not end_token_ids(sampling, eos_token_ids):
        return 0
    return sequence.num_prompt_tokens + min(sampling.min_tokens, sequence.max_tokens)


class Slots:
    """The host's side: sequences to slots, plans to differences."""

    def __init__(
        self, layout: Layout, block_size: int, vocab_size: int, eos_token_ids: Seq[int]
    ) -> None:
        num_slots = layout.num_slots
        self._layout = layout
        self._vocab_size = vocab_size
        self._block_size = block_size
        self._eos_token_ids = eos_token_ids
        self._scrap = num_slots
        self._free = list(range(num_slots))[::-1]
        self._told: dict[Sequence, Told] = {}
        self._rows: list[int] = [num_slots] * num_slots
        self._news: dict[int, int] = {}  # place -> word
        self._texts: list[tuple[int, list[int], list[int]]] = []  # (slot, prompt, output)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._told

    def follow(self, plan_rows: Iterable[PlanRow], *, is_decode: bool) -> list[Told]:
        """Bring the device up to each row's `start`; where the host computes positions (not
        `is_decode`), to its end."""
        rows = list(plan_rows)
        self._forget_all_but({row.sequence for row in rows})
        return [self._follow(row, is_decode=is_decode) for row in rows]

    def _forget_all_but(self, here: set[Sequence]) -> None:
        if len(here) == len(self._told) and self._told.keys() == here:
            return
        for sequence in [known for known in self._told if known not in here]:  # in order
            slot = self._told.pop(sequence).slot
            assert slot not in self._free, f"slot {slot} is freed twice"
            self._free.append(slot)

    def _follow(self, row: PlanRow, *, is_decode: bool) -> Told:
        sequence = row.sequence
        told = self._told.get(sequence)
        if told is None:
            sampling = sequence.request.sampling
            told = Told(
                self._free.pop(),
                make_knobs(sampling),
                is_penalized(sampling),
                first_end(sequence, self._eos_token_ids),
            )
            self._told[sequence] = told
            self._tell_knobs(told, sequence)
            self._tell_biases(told, sampling)
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

    def _tell_knobs(self, told: Told, sequence: Sequence) -> None:
        knobs, sampling = told.knobs, sequence.request.sampling
        words = pack(
            "<3fiq3f3i",
            knobs.temperature,
            knobs.top_p,
            knobs.log_min_p,
            knobs.top_k,
            knobs.seed,
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
            told.first_end,
            len(sampling.logit_bias),
            bool(sequence.request.grammar),
        )
        for field, (word,) in enumerate(iter_unpack("<i", words), start=Word.TEMPERATURE):
            self._tell(told, field, word)

    def _tell_biases(self, told: Told, sampling: SamplingParams) -> None:
        ends = end_token_ids(sampling, self._eos_token_ids)
        start = self._layout.ends + told.slot * self._layout.num_ends
        for i in range(self._layout.num_ends if told.first_end else 0):
            self._news[start + i] = ends[i % len(ends)]  # all of them count: some are there twice
        start = self._layout.biases + told.slot * 2 * MAX_BIASES
        for i, (token_id, bias) in enumerate(sampling.logit_bias.items()):
            (self._news[start + MAX_BIASES + i],) = unpack("<i", pack("<f", bias))
            self._news[start + i] = token_id

    def _tell_text(self, told: Told, sequence: Sequence) -> None:
        prompt_end = sequence.num_prompt_tokens
        prompt, output = sequence.token_ids[:prompt_end], sequence.token_ids[prompt_end:]
        self._texts.append((told.slot, prompt, output))

    def _tell_blocks(self, told: Told, sequence: Sequence, num_blocks: int) -> None:
        for i in range(told.num_blocks, num_blocks):
            self._tell(told, Word.BLOCKS + i, sequence.block_table[i])
        told.num_blocks = max(told.num_blocks, num_blocks)

    def _tell(self, told: Told, field: int, word: int) -> None:
        self._news[told.slot * self._layout.width + field] = word

    def choose_rows(self, slots: list[int], bucket: int) -> None:
        """The slots that a decode step computes, in order, filled up with scrap to the bucket."""
        rows = slots + [self._scrap] * (bucket - len(slots))
        if self._rows[:bucket] == rows:
            return
        for i, slot in enumerate(rows):
            if self._rows[i] != slot:
                self._news[self._layout.rows + i] = slot
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
