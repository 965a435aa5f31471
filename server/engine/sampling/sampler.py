"""Logits -> the next token of each row: argmax, or a draw from what min-p, top-k and top-p keep.

A draw needs one number u in [0, 1), a function of the request's seed and the token's position and
of nothing else (`philox.py`): the same whatever shares the batch, and again after a preemption. The
token is where the cumulated probabilities of the kept tokens, in order of their ids, first exceed
u.

Everything a row asks for is a number in a column, so any mix of rows is one set of calls, and the
host has no part in it but for one choice, made in advance: how many of the likeliest tokens are to
be put in order (`Ranking`). On a GPU kernels do the same without any order, whatever is asked for:
`model/kernels/choose_tokens.py`, whose twin `draw` is.

Batch-invariant on the CPU: every reduction over the vocabulary is a maximum, a sort or a cumulated
sum, which go along a row the same way however many rows there are. `sum` does not (it splits a lone
row among threads), so totals are read off the end of a cumulated sum.
"""

import math
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from thirdeye.model.placement import can_fuse
from thirdeye.server.engine.grammar.bitmask import NO_MASKS, RowMasks, apply_masks
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.engine.sampling.fused_sampler import choose_in_kernels
from thirdeye.server.engine.sampling.philox import as_int64, uniform

NUM_RANKED = 256  # tokens that usually hold all of top-p; more are sorted only where they do not
NO_TOKEN = -1
MIN_TEMPERATURE = 1e-30  # below it, float32 would divide by 0


class DrawParams(NamedTuple):
    """What decides one row's draw, as plain numbers."""

    temperature: float  # 0: greedy, whatever the others say
    top_p: float
    log_min_p: float  # -inf is off
    top_k: int  # 0 is off
    seed: int  # as a signed 64-bit integer


GREEDY = DrawParams(temperature=0.0, top_p=1.0, log_min_p=-math.inf, top_k=0, seed=0)


def make_draw_params(sampling: SamplingParams) -> DrawParams:
    is_greedy = sampling.temperature == 0 or sampling.top_p == 0
    return DrawParams(
        temperature=0.0 if is_greedy else max(sampling.temperature, MIN_TEMPERATURE),
        top_p=sampling.top_p,
        log_min_p=math.log(sampling.min_p) if sampling.min_p > 0 else -math.inf,
        top_k=sampling.top_k,
        seed=as_int64(sampling.seed),
    )


@dataclass(frozen=True, slots=True)
class DrawColumns:
    """The draw_params of R rows, on the device."""

    temperature: Tensor  # [R] float32
    top_p: Tensor  # [R] float32
    log_min_p: Tensor  # [R] float32
    top_k: Tensor  # [R] int64
    seed: Tensor  # [R] int64


def make_draw_columns(rows: Seq[DrawParams], device: torch.device) -> DrawColumns:
    floats = torch.tensor([row[:3] for row in rows], dtype=torch.float32, device=device)
    integers = torch.tensor([row[3:] for row in rows], dtype=torch.int64, device=device)
    return DrawColumns(*floats.unbind(1), *integers.unbind(1))


@dataclass(frozen=True, slots=True)
class Ranking:
    """How many of the likeliest tokens of each row are put in order, and whether they surely
    suffice: if not, the host looks, and sorts the rows whose top-p reaches further."""

    num_ranked: int  # 0: nobody asks for top-k or top-p
    is_enough: bool
    has_floor: bool = True  # False: nobody asks for min-p either, so every token may be drawn


def plan_ranking(rows: Iterable[DrawParams], vocab_size: int, *, may_look: bool) -> Ranking:
    """The cheapest that is right for all rows. Without `may_look` everything is settled now, and
    rows with top-p whose top-k does not bound it need all tokens in order."""
    num_ranked, is_enough, has_min_p = 0, True, False
    for row in rows:
        has_top_k, has_top_p = 0 < row.top_k < vocab_size, row.top_p < 1
        has_min_p |= row.temperature > 0 and row.log_min_p > -math.inf
        if row.temperature == 0 or not (has_top_k or has_top_p):
            continue
        is_bounded = 0 < row.top_k <= NUM_RANKED
        if has_top_k and not is_bounded:
            num_ranked = vocab_size
        num_ranked = max(num_ranked, min(NUM_RANKED, vocab_size))
        is_enough &= is_bounded or not has_top_p
    if num_ranked == 0:
        return Ranking(0, is_enough=True, has_floor=has_min_p)
    if num_ranked == vocab_size:
        return Ranking(vocab_size, is_enough=True)
    return Ranking(num_ranked, is_enough) if is_enough or may_look else Ranking(vocab_size, True)


class Sampler(Protocol):
    """`sample`, or what does the same where there is something quicker."""

    def __call__(
        self,
        logits: Tensor,
        draw_params: Seq[DrawParams],
        positions: Seq[int],
        masks: RowMasks = NO_MASKS,
    ) -> Tensor: ...


def sample(
    logits: Tensor, draw_params: Seq[DrawParams], positions: Seq[int], masks: RowMasks = NO_MASKS
) -> Tensor:
    """logits [R, vocab_size] float32 -> token ids [R] int64, for the tokens at `positions`.

    `NO_TOKEN` where a logit is NaN or infinity, or nothing that may follow has a mass.
    """
    is_number = logits.amax(-1) < torch.inf  # [R], NaN anywhere in a row makes its maximum NaN
    if masks.rows:
        logits = logits.clone()
        apply_masks(logits, masks)
    token_ids = _choose(logits, draw_params, positions)
    return token_ids.where(is_number & (logits.amax(-1) > -torch.inf), NO_TOKEN)


def _choose(logits: Tensor, draw_params: Seq[DrawParams], positions: Seq[int]) -> Tensor:
    """What `sample` gives, and any id where that is `NO_TOKEN`."""
    if can_fuse(logits.device):
        return choose_in_kernels(logits, draw_params, positions)
    token_ids = logits.argmax(-1)  # [R]
    drawn = [i for i, row in enumerate(draw_params) if row.temperature > 0]
    if drawn:
        params = [draw_params[i] for i in drawn]
        rows, places = torch.tensor(
            [drawn, [positions[i] for i in drawn]], device=logits.device
        )  # [R] each
        columns = make_draw_columns(params, logits.device)
        ranking = plan_ranking(params, logits.shape[-1], may_look=True)
        noise = uniform(columns.seed, places)
        chosen = logits if len(drawn) == len(draw_params) else logits[rows]  # no copy of them all
        token_ids[rows] = draw(chosen, columns, noise, ranking)
    return token_ids


def draw(logits: Tensor, columns: DrawColumns, noise: Tensor, ranking: Ranking) -> Tensor:
    """One token for each row: logits [R, vocab_size], noise [R] -> token ids [R] int64.

    Rows that are greedy get any id.
    """
    temperature = columns.temperature.clamp(min=MIN_TEMPERATURE)[:, None]
    scaled = (logits - logits.amax(-1, keepdim=True)).div_(temperature)  # maximum 0
    floor = columns.log_min_p[:, None]  # [R, 1]
    if ranking.num_ranked:
        ranked = rank(scaled, ranking.num_ranked)  # [R, K], likeliest first
        floor = torch.maximum(floor, top_k_floor(ranked, columns.top_k, logits.shape[-1]))
        floor = top_p_floor(scaled, ranked, floor, columns.top_p[:, None], ranking.is_enough)
    masses = _masses(scaled, floor) if ranking.has_floor else scaled.exp_()
    cumulated = masses.cumsum(-1)  # [R, vocab_size]
    total = cumulated[:, -1:]
    target = torch.minimum(noise[:, None] * total, total.nextafter(torch.zeros_like(total)))
    first = torch.searchsorted(cumulated, target, right=True)[:, 0]  # that exceeds it
    return first.clamp(max=logits.shape[-1] - 1)  # out of range only for NaN


def rank(scaled: Tensor, num_ranked: int) -> Tensor:
    """The largest values of each row [R, vocab_size], in order: [R, num_ranked], or all."""
    if num_ranked >= scaled.shape[-1]:
        return scaled.sort(descending=True).values
    return scaled.topk(num_ranked).values


def top_k_floor(ranked: Tensor, top_k: Tensor, vocab_size: int) -> Tensor:
    """The k-th largest value of each row: ranked [R, K], top_k [R] -> [R, 1]; -inf where it is off.

    Ties with the k-th are kept: which of equals is left out would be chance.
    """
    kth = ranked.gather(1, (top_k - 1).clamp(0, ranked.shape[-1] - 1)[:, None])
    is_on = (top_k > 0) & (top_k < vocab_size)
    return kth.where(is_on[:, None], -math.inf)


def top_p_floor(
    scaled: Tensor, ranked: Tensor, floor: Tensor, top_p: Tensor, is_enough: bool
) -> Tensor:
    """The least value [R, 1] in the smallest set of likeliest tokens that holds `top_p` [R, 1].

    The share is taken of what `floor` [R, 1] leaves (Holtzman et al., arXiv:1904.09751, after
    top-k). `ranked` [R, K] are the largest of `scaled` [R, vocab_size].
    """
    goal = top_p * _masses(scaled, floor).cumsum(-1)[:, -1:]  # [R, 1]
    least, is_reached = _nucleus_end(ranked, floor, goal)
    if not is_enough:
        missed = (~is_reached & (top_p < 1)).nonzero()[:, 0]
        if len(missed):
            longer = rank(scaled[missed], scaled.shape[-1])
            least[missed], _ = _nucleus_end(longer, floor[missed], goal[missed])
    return torch.where(top_p < 1, torch.maximum(floor, least), floor)


def _nucleus_end(ranked: Tensor, floor: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The value at which the masses of `ranked` [R, K] reach `goal`, or the last; and whether."""
    cumulated = _masses(ranked, floor).cumsum(-1)  # [R, K]
    end = torch.searchsorted(cumulated, goal)  # [R, 1], first that reaches it
    is_reached = end < ranked.shape[-1]
    return ranked.gather(1, end.clamp(max=ranked.shape[-1] - 1)), is_reached


def _masses(scaled: Tensor, floor: Tensor) -> Tensor:
    """Probabilities up to a factor, 0 for what lies below the floor."""
    return scaled.exp().masked_fill_(scaled < floor, 0)
