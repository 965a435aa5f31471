"""How often each slot's sequence has said each token, on the device: what penalties are made of.

One word for each slot and token: how often it is in the output, and a bit for whether it is in the
prompt. The host tells the text of a sequence when it comes; from then on every token that is chosen
is counted where it was chosen. `penalize` is `apply_penalties` of `logits_processors.py`, for all
rows in one set of calls; the same operations in the same order, and bit for bit the same result on
a CPU.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IN_PROMPT = 1 << 30


@dataclass(frozen=True, slots=True)
class CountsUpdate:
    """What the host tells of sequences that have come."""

    slots: Tensor  # [k] int64, whose counts begin anew
    places: Tensor  # [n] int64, slot * vocab_size + token id
    words: Tensor  # [n] int32


def make_counts_update(
    texts: Seq[tuple[int, Seq[int], Seq[int]]], vocab_size: int, *, pin: bool = False
) -> CountsUpdate | None:
    """(slot, prompt, output) of each sequence. Pinned, so that the copy to a GPU does not wait for
    the step that runs."""
    if not texts:
        return None
    places, words = [], []
    for slot, prompt, output in texts:
        seen = np.unique(np.array(prompt, np.int64))
        said, counts = np.unique(np.array(output, np.int64), return_counts=True)
        places += [slot * vocab_size + seen, slot * vocab_size + said]
        words += [np.full(len(seen), IN_PROMPT), counts]
    tensors = (
        torch.tensor([slot for slot, _, _ in texts]),
        torch.from_numpy(np.concatenate(places)),
        torch.from_numpy(np.concatenate(words).astype(np.int32)),
    )
    return CountsUpdate(*(tensor.pin_memory() if pin else tensor for tensor in tensors))


class TokenCounts:
    """The tensor, [num_slots + 1, vocab_size]: 4 bytes for each slot and token."""

    def __init__(self, num_slots: int, vocab_size: int, device: torch.device) -> None:
        self._device = device
        self._vocab_size = vocab_size
        self._words = torch.zeros(num_slots + 1, vocab_size, dtype=torch.int32, device=device)

    def apply(self, texts: CountsUpdate | None) -> None:
        if texts is None:
            return
        slots, places, words = (
            tensor.to(self._device, non_blocking=True)
            for tensor in (texts.slots, texts.places, texts.words)
        )
        self._words.index_fill_(0, slots, 0)
        self._words.view(-1).index_add_(0, places, words)  # a token may be in prompt and output

    def add(self, slots: Tensor, token_ids: Tensor) -> None:
        """slots [R] have said token_ids [R]."""
        places = slots * self._vocab_size + token_ids
        self._words.view(-1).index_add_(0, places, torch.ones_like(places, dtype=torch.int32))

    def penalize(
        self, logits: Tensor, slots: Tensor, repetition: Tensor, frequency: Tensor, presence: Tensor
    ) -> Tensor:
        """logits [R, vocab_size] of slots [R], the penalties [R] float32 -> new logits."""
        words = self._words.index_select(0, slots)  # [R, vocab_size]
        divided = torch.where(
            logits > 0, logits / repetition[:, None], logits * repetition[:, None]
        )
        logits = torch.where(words > 0, divided, logits)
        counts = words % IN_PROMPT
        loss = counts.float() * frequency[:, None] + presence[:, None]
        return torch.where(counts > 0, logits - loss, logits)
