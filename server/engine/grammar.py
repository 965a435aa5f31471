"""Grammars in a step: each constrained request sees only the tokens that its grammar lets follow.

Each row's mask is asked for by itself, since one row's trouble is its own, and all are laid on the
logits in one operation. They are the first thing done to a request's logits, so all else (biases,
penalties, top-k) chooses among what is left; reported logprobs are of the raw logits and know
nothing of it. An answer whose grammar is over has ended: end-of-sequence need not be sampled for
that.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from server.engine.logits import History
from server.engine.matcher import GrammarError

NO_GRAMMARS = "This engine was built without grammars."
OVER = "The grammar of this request has nothing more to say."


def mask_of(history: History) -> bytes:
    """What may follow the answer so far: one bit for each token, lowest first.

    Raises `GrammarError` if nothing may: after a draft that the grammar refuses, or that ends it.
    """
    matcher = history.matcher
    if matcher is None:
        raise GrammarError(NO_GRAMMARS)
    matcher.follow(answer_of(history))
    if matcher.is_over:
        raise GrammarError(OVER)
    return matcher.mask()


def apply_masks(logits: Tensor, masks: Mapping[int, bytes]) -> None:
    """Take from each masked row of logits [S, vocab_size], in place, what may not follow there."""
    if not masks:
        return
    ordered = [masks[row] for row in sorted(masks)]
    forbidden = unpack(ordered, logits.shape[-1]).to(logits.device)  # [R, vocab_size]
    if len(masks) == len(logits):
        logits.masked_fill_(forbidden, -torch.inf)
    else:
        rows = torch.tensor(sorted(masks), device=logits.device)
        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)


def unpack(masks: Seq[bytes], vocab_size: int) -> Tensor:
    """Bits of the tokens that may follow -> bool [R, vocab_size], true for those that may not.

    A model may have more logits than its vocabulary has tokens: those may never follow.
    """
    packed = np.frombuffer(b"".join(masks), np.uint8).reshape(len(masks), -1)
    bits = np.unpackbits(packed, axis=-1, count=vocab_size, bitorder="little")  # 0 behind the end
    np.bitwise_xor(bits, 1, out=bits)
    return torch.from_numpy(bits.view(np.bool_))


def is_complete(history: History, new_token_ids: Seq[int]) -> bool:
    """Whether the new tokens bring a request to the end of its grammar."""
    matcher = history.matcher
    if matcher is None:
        return False
    try:
        matcher.follow([*answer_of(history), *new_token_ids])
    except GrammarError:
        return False  # too complex from here on: the next step meets it again, and says so
    return matcher.is_over


def answer_of(history: History) -> list[int]:
    return history.token_ids[history.num_prompt_tokens :]
