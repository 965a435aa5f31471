"""What a request does to its logits before a token is chosen: masks, biases, penalties.

Each processor changes one row in place, and only rows that ask for it are touched. They run one row
at a time, so that one request's trouble stays its own. Their order is that of `SamplingParams`.

They look at a `History`: the sequence itself, or the sequence as it will be if some drafts turn out
to be right. Either way, what they do is a function of the tokens so far and nothing else.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from thirdeye.server.engine.interface.history import History

Processor = Callable[[Tensor, History], None]


def make_processors(eos_token_ids: Iterable[int]) -> tuple[Processor, ...]:
    """The processors of an engine, in order."""
    eos = list(eos_token_ids)

    def mask_until_min_tokens(logits: Tensor, sequence: History) -> None:
        sampling = sequence.request.sampling
        if sequence.num_generated_tokens < sampling.min_tokens:
            ends = eos + sampling.stop_token_ids
            held_back = logits[ends]
            logits[ends] = -torch.inf
            if sequence.request.is_constrained and logits.amax() == -torch.inf:
                logits[ends] = held_back  # the grammar leaves nothing else, and it goes first

    return mask_until_min_tokens, add_logit_bias, apply_penalties


def is_processed(sequence: History) -> bool:
    """Whether any processor has something to do."""
    sampling = sequence.request.sampling
    return bool(
        (sampling.min_tokens and sequence.num_generated_tokens < sampling.min_tokens)
        or sampling.logit_bias
        or sampling.frequency_penalty
        or sampling.presence_penalty
        or sampling.repetition_penalty != 1
    )


def add_logit_bias(logits: Tensor, sequence: History) -> None:
    bias = sequence.request.sampling.logit_bias
    if bias:
        values = torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device)
        logits[list(bias)] += values


def apply_penalties(logits: Tensor, sequence: History) -> None:
    """Make tokens that were there less likely; logits [vocab_size].

    Repetition (CTRL, arXiv:1909.05858, section 4.1): a positive logit is divided by it and a
    negative one multiplied, once, if the token is in prompt or output. Then, over the output alone,
    each token loses `frequency_penalty` for each time it occurs and `presence_penalty` once
    (OpenAI). A window leaves of both the last tokens (llama.cpp's `repeat_last_n`).
    """
    sampling = sequence.request.sampling
    start = (
        max(0, len(sequence.token_ids) - sampling.penalty_window)
        if sampling.penalty_window > 0
        else 0
    )
    if sampling.repetition_penalty != 1:
        seen = torch.from_numpy(np.unique(sequence.token_ids[start:])).to(logits.device)
        values, penalty = logits[seen], sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    output = sequence.token_ids[max(start, sequence.num_prompt_tokens) :]
    if output and (sampling.frequency_penalty or sampling.presence_penalty):
        unique, counts = np.unique(output, return_counts=True)
        frequency = np.float32(sampling.frequency_penalty)  # as in `device_penalties.py`
        loss = counts.astype(np.float32) * frequency + np.float32(sampling.presence_penalty)
        seen = torch.from_numpy(unique).to(logits.device)
        logits[seen] -= torch.from_numpy(loss).to(logits)
