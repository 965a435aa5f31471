"""Grammars in a step: each constrained request sees only the tokens that its grammar lets follow.

The mask is the first thing done to a request's logits, so all else (biases, penalties, top-k)
chooses among what is left; reported logprobs are of the raw logits and know nothing of it. An
answer whose grammar is over has ended: end-of-sequence need not be sampled for that.
"""

from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from server.engine.logits import History
from server.engine.matcher import GrammarError

NO_GRAMMARS = "This engine was built without grammars."
OVER = "The grammar of this request has nothing more to say."


def mask_by_grammar(logits: Tensor, history: History) -> None:
    """Leave only what may follow the answer so far; logits [vocab_size].

    Raises `GrammarError` if nothing may: after a draft that the grammar refuses, or that ends it.
    """
    if not history.request.grammar:
        return
    matcher = history.matcher
    if matcher is None:
        raise GrammarError(NO_GRAMMARS)
    matcher.follow(answer_of(history))
    if matcher.is_over:
        raise GrammarError(OVER)
    logits.masked_fill_(unpack(matcher.mask(), len(logits)).to(logits.device), -torch.inf)


def unpack(mask: bytes, vocab_size: int) -> Tensor:
    """Bits of the tokens that may follow -> bool [vocab_size], true for those that may not."""
    forbidden = ~np.frombuffer(mask, np.uint8)
    bits = np.unpackbits(forbidden, count=vocab_size, bitorder="little")
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
