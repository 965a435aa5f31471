"""What grammars let follow, on the device: a bit for each slot and token.

The host makes the masks while the device computes the step whose tokens they choose, and sends
them packed, 1/32 of the logits; they are unpacked where they are needed. Rows without a grammar
have a mask too, which says nothing: a word of their slot says so.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.server.engine.interface.grammar_protocol import num_words

BITS = 32  # in a word


@dataclass(frozen=True, slots=True)
class MaskUpdate:
    """What may follow in some slots."""

    slots: Tensor  # [k] int64
    words: Tensor  # [k, num_words or more] int32, a set bit for each token that may follow


class SlotMasks:
    """The tensor, [num_slots + 1, num_words]: an eighth of a byte for each slot and token."""

    def __init__(self, num_slots: int, vocab_size: int, device: torch.device) -> None:
        size = num_slots + 1, num_words(vocab_size)
        self._words = torch.zeros(size, dtype=torch.int32, device=device)
        self._device = device

    def apply(self, update: MaskUpdate | None) -> None:
        if update is None:
            return
        words = update.words.to(self._device, non_blocking=True)[:, : self._words.shape[1]]
        self._words.index_copy_(0, update.slots.to(self._device, non_blocking=True), words)

    def of(self, slots: Tensor) -> Tensor:
        """[R, num_words] of slots [R]."""
        return self._words.index_select(0, slots)


def mask_logits(logits: Tensor, masks: Tensor, has_grammar: Tensor) -> Tensor:
    """logits [R, vocab_size], masks [R, num_words] -> minus infinity where a row that has a grammar
    [R] leaves nothing."""
    places = torch.arange(BITS, dtype=torch.int32, device=masks.device)  # [32]
    bits = (masks[:, :, None] >> places) & 1  # [R, num_words, 32]
    is_allowed = bits.flatten(1)[:, : logits.shape[-1]] != 0  # [R, vocab_size]
    return logits.where(is_allowed | ~has_grammar[:, None], -torch.inf)
