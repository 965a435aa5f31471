"""Logits -> the next token of each row: argmax, or a draw from what min-p, top-k and top-p keep.

A draw needs one number u in [0, 1), a function of the request's seed and the token's position and
of nothing else: the same whatever shares the batch, and again after a preemption. The token is
where the cumulated probabilities of the kept tokens, in order of their ids, first exceed u.

Batch-invariant on the CPU: every reduction over the vocabulary is a maximum, a sort or a cumulated
sum, which go along a row the same way however many rows there are. `sum` does not (it splits a lone
row among threads), so totals are read off the end of a cumulated sum.
"""

import math
from collections.abc import Sequence as Seq
from hashlib import blake2b
from struct import pack

import torch
from torch import Tensor

from server.engine.types import SamplingParams

NUM_RANKED = 256  # tokens that usually hold all of top-p; more are sorted only where they do not
MIN_TEMPERATURE = 1e-30  # below it, float32 would divide by 0


def is_greedy(sampling: SamplingParams) -> bool:
    return sampling.temperature == 0 or sampling.top_p == 0


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that decides the token at `position`: a hash, hence random access."""
    digest = blake2b(pack("<QQ", seed % 2**64, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def sample(logits: Tensor, samplings: Seq[SamplingParams], positions: Seq[int]) -> Tensor:
    """Processed logits [S, vocab_size] float32 -> token ids [S] int64. A NaN row gives any id."""
    token_ids = logits.argmax(-1)  # [S]
    drawn = [i for i, sampling in enumerate(samplings) if not is_greedy(sampling)]
    if drawn:
        params = [samplings[i] for i in drawn]
        noise = [uniform(samplings[i].seed, positions[i]) for i in drawn]
        rows = torch.tensor(drawn, device=logits.device)
        token_ids[rows] = draw(logits[rows], params, noise)
    return token_ids


def draw(logits: Tensor, params: Seq[SamplingParams], noise: Seq[float]) -> Tensor:
    """One token for each row: logits [R, vocab_size] -> token ids [R] int64."""

    def column(values: list[float]) -> Tensor:  # [R, 1]
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    temperature = column([max(p.temperature, MIN_TEMPERATURE) for p in params])
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature  # [R, vocab_size], maximum 0
    floor = column([math.log(p.min_p) if p.min_p > 0 else -math.inf for p in params])
    if any(p.top_k > 0 for p in params):
        floor = torch.maximum(floor, top_k_floor(scaled, [p.top_k for p in params]))
    if any(p.top_p < 1 for p in params):
        floor = top_p_floor(scaled, floor, column([p.top_p for p in params]))
    cumulated = _masses(scaled, floor).cumsum(-1)  # [R, vocab_size]
    total = cumulated[:, -1:]
    target = torch.minimum(column(list(noise)) * total, total.nextafter(torch.zeros_like(total)))
    first = torch.searchsorted(cumulated, target, right=True)[:, 0]  # that exceeds it
    return first.clamp(max=logits.shape[-1] - 1)  # out of range only for NaN


def top_k_floor(scaled: Tensor, top_k: Seq[int]) -> Tensor:
    """The k-th largest value of each row [R, vocab_size] -> [R, 1]; -inf where top-k is off.

    Ties with the k-th are kept: which of equals is left out would be chance.
    """
    vocab_size = scaled.shape[-1]
    ranked = scaled.topk(min(max(top_k), vocab_size)).values  # [R, K], likeliest first
    ks = torch.tensor(top_k, device=scaled.device)[:, None]  # [R, 1]
    kth = ranked.gather(1, (ks - 1).clamp(0, ranked.shape[-1] - 1))
    is_on = (ks > 0) & (ks < vocab_size)
    return kth.where(is_on, -math.inf)


def top_p_floor(scaled: Tensor, floor: Tensor, top_p: Tensor) -> Tensor:
    """The least value [R, 1] in the smallest set of likeliest tokens that holds `top_p` [R, 1].

    The share is taken of what `floor` [R, 1] leaves (Holtzman et al., arXiv:1904.09751, after
    top-k).
    """
    goal = top_p * _masses(scaled, floor).cumsum(-1)[:, -1:]  # [R, 1]
    ranked = scaled.topk(min(NUM_RANKED, scaled.shape[-1])).values  # [R, K]
    least, is_reached = _nucleus_end(ranked, floor, goal)
    missed = (~is_reached & (top_p < 1)).nonzero()[:, 0]
    if len(missed):
        ranked = scaled[missed].sort(descending=True).values
        least[missed], _ = _nucleus_end(ranked, floor[missed], goal[missed])
    return torch.where(top_p < 1, torch.maximum(floor, least), floor)


def _nucleus_end(ranked: Tensor, floor: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The value at which the masses of `ranked` [R, K] reach `goal`, or the last; and whether."""
    cumulated = _masses(ranked, floor).cumsum(-1)  # [R, K]
    end = torch.searchsorted(cumulated, goal)  # [R, 1], first that reaches it
    is_reached = end < ranked.shape[-1]
    return ranked.gather(1, end.clamp(max=ranked.shape[-1] - 1)), is_reached[:, 0, None]


def _masses(scaled: Tensor, floor: Tensor) -> Tensor:
    """Probabilities up to a factor, 0 for what lies below the floor."""
    return scaled.exp().masked_fill_(scaled < floor, 0)
