"""Grammars in a step: each constrained request sees only the tokens that its grammar lets follow.

Each row's mask is asked for by itself, since one row's trouble is its own, and written where the
sampler reads it. RowMasks are the first thing done to a request's logits, so all else (biases,
penalties, top-k) chooses among what is left; reported logprobs are of the raw logits and know
nothing of it. An answer whose grammar is over has ended: end-of-sequence need not be sampled for
that.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thirdeye.server.engine.interface.grammar_protocol import GrammarError, num_words
from thirdeye.server.engine.interface.history import History

NO_GRAMMARS = "This engine was built without grammars."
OVER = "The grammar of this request has nothing more to say."


@dataclass(frozen=True, slots=True)
class RowMasks:
    """What may follow at some rows of the logits, and nowhere else is anything forbidden."""

    rows: list[int]  # ascending
    words: NDArray[np.int32]  # [len(rows), num_words], a bit for each token, lowest first

    def of(self, rows: Seq[int]) -> "RowMasks":
        """Those of some rows, in order, which are counted from 0."""
        places = {row: place for place, row in enumerate(self.rows)}
        masked = [i for i, row in enumerate(rows) if row in places]
        return RowMasks(masked, self.words[[places[rows[i]] for i in masked]])

    def addresses(self, num_rows: int) -> list[int]:
        """Where each row's mask begins, 0 for one that has none."""
        found = [0] * num_rows
        if not self.rows:
            return found
        start, (stride, _) = self.words.ctypes.data, self.words.strides
        for place, row in enumerate(self.rows):
            found[row] = start + place * stride
        return found


NO_MASKS = RowMasks([], np.empty((0, 0), np.int32))


def empty_masks(num_rows: int, vocab_size: int) -> NDArray[np.int32]:
    """Room for masks: int32 [num_rows, num_words], with a bit to spare in each row, so that a
    matcher whose vocabulary has an end of its own writes in place."""
    return np.empty((num_rows, num_words(vocab_size + 1)), np.int32)


def fill_mask(history: History, mask: NDArray[np.int32]) -> None:
    """Write what may follow the answer so far into a row of masks.

    Raises `GrammarError` if nothing may: after a draft that the grammar refuses, or that ends it.
    """
    matcher = history.matcher
    if matcher is None:
        raise GrammarError(NO_GRAMMARS)
    matcher.follow(answer_of(history))
    if matcher.is_over:
        raise GrammarError(OVER)
    matcher.fill(mask)


def apply_masks(logits: Tensor, masks: RowMasks) -> None:
    """Take from the masked rows of logits [S, vocab_size], in place, what may not follow there."""
    if not masks.rows:
        return
    forbidden = unpack(masks.words, logits.shape[-1]).to(logits.device)  # [R, vocab_size]
    if len(masks.rows) == len(logits):
        logits.masked_fill_(forbidden, -torch.inf)
    else:
        rows = torch.tensor(masks.rows, device=logits.device)
        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)


def unpack(masks: NDArray[np.int32], vocab_size: int) -> Tensor:
    """Bits of the tokens that may follow [R, num_words] -> bool [R, vocab_size], true for those
    that may not."""
    packed = masks.view(np.uint8)
    bits = np.unpackbits(packed, axis=-1, count=vocab_size, bitorder="little")
    np.bitwise_xor(bits, 1, out=bits)
    return torch.from_numpy(bits.view(np.bool_))


def is_complete(history: History, new_token_ids: Seq[int]) -> bool:
    """Whether the new tokens bring a request to the end of its grammar, as far as is known."""
    matcher = history.matcher
    if matcher is None or matcher.late is not None:
        return False
    try:
        matcher.follow([*answer_of(history), *new_token_ids])
    except GrammarError:
        return False  # too complex from here on: the next step meets it again, and says so
    return matcher.is_over


def answer_of(history: History) -> list[int]:
    return history.token_ids[history.num_prompt_tokens :]
