"""What is added to each slot's logits, on the device: `logit_bias`, and what holds an end back.

The entries of a sequence are words of its slot (`device_state.py`), told once, when it comes. How
many of them count, and the position from which the answer may end, are words as well, so nothing
has to be told when `min_tokens` is reached, nor to the next owner of a slot who has none. This is
`mask_until_min_tokens` and `add_logit_bias` of `logits_processors.py` for all rows in one set of
calls: an entry that does not count adds 0, and what is added to minus infinity leaves it there, so
entries may name a token twice.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from thirdeye.server.engine.interface.types import SamplingParams

MAX_BIASES = 1024  # entries of `logit_bias`: as many as the API takes
MAX_STOPS = 64  # of `stop_token_ids`, too


def fits_device_state(sampling: SamplingParams, eos_token_ids: Seq[int], vocab_size: int) -> bool:
    """Whether the device can hold what a request asks for. Its counts of tokens only grow, so it
    has no window that tokens leave."""
    named = [*end_token_ids(sampling, eos_token_ids), *sampling.logit_bias]
    is_small = len(sampling.logit_bias) <= MAX_BIASES and len(sampling.stop_token_ids) <= MAX_STOPS
    is_held = is_small and sampling.penalty_window < 0
    return is_held and all(0 <= token_id < vocab_size for token_id in named)


def end_token_ids(sampling: SamplingParams, eos_token_ids: Iterable[int]) -> list[int]:
    """The tokens that must not be chosen before `min_tokens` are there."""
    return [*eos_token_ids, *sampling.stop_token_ids] if sampling.min_tokens else []


def hold_back(logits: Tensor, ends: Tensor, is_early: Tensor, has_grammar: Tensor) -> Tensor:
    """logits [R, vocab_size] -> the same, without the `ends` [R, E] of rows that are early [R].

    A grammar goes first: where it has left ends alone, they stay.
    """
    loss = torch.where(is_early, -torch.inf, 0.0)[:, None].expand(ends.shape)  # [R, E]
    held = logits.scatter_add(1, ends, loss)
    has_nothing = held.amax(-1).isneginf() & has_grammar  # [R]
    return torch.where(has_nothing[:, None], logits, held)


def add_biases(logits: Tensor, token_ids: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """logits [R, vocab_size] plus the first `counts` [R] of `values` [R, B] at `token_ids`."""
    order = torch.arange(values.shape[1], device=values.device)  # [B]
    counted = values.where(order < counts[:, None], 0.0)
    return logits.scatter_add(1, token_ids, counted)
