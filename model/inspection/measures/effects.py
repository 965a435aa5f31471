"""What an edit did to the next token: numbers to compare, and their noise floor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.inspection.measures.token_scores import scores_of

FIELDS = ("kl", "logit_difference", "logprob", "other_logprob", "rank", "other_rank")


def effects(base: Tensor, changed: Tensor, compare: list[int]) -> Tensor:
    """base logprobs [vocab_size], changed ones [m, vocab_size], one token or two -> [m, 6] as
    FIELDS, in float64: KL(base || changed) in nats; the first token's logit less the second's; the
    logprob of each, and how many tokens are likelier. NaN of a second token that is not there."""
    wide = changed.double()
    # float32's logprobs sum to 1 to some 1e-7: unmended, a divergence may come out below zero.
    before, after = base.double().log_softmax(-1), wide.log_softmax(-1)
    kl = (before.exp() * (before - after).nan_to_num(nan=0.0)).sum(-1).clamp_min(0.0)
    tokens = torch.tensor(compare, device=base.device).expand(len(changed), -1)
    found = scores_of(wide, tokens)  # [m, tokens, 2]
    first = found[:, 0]
    second = found[:, 1] if len(compare) > 1 else torch.full_like(first, math.nan)
    columns = (kl, first[:, 0] - second[:, 0], first[:, 0], second[:, 0], first[:, 1], second[:, 1])
    return torch.stack(columns, dim=-1)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Of `runs` of a text whose embeddings are changed by one part in a million."""

    runs: int
    kl_median: float
    kl_max: float
    difference_sd: float  # of the logits' difference; NaN with one token to compare


def noise_floor(found: Tensor) -> NoiseFloor:
    """found [runs, 6], as `effects` gives them."""
    kl, difference = found[:, 0], found[:, 1]
    return NoiseFloor(
        len(found), float(kl.median()), float(kl.max()), float(difference.std(correction=0))
    )
