"""Weights to blocks as ggml's files keep them: Q8_0, Q4_0 and Q4_K, with the scales that err least.

A block's numbers are whole ones times a scale; which scale is best is tried: a few of them, each
improved once by least squares for the numbers that it gives. Scales are rounded to what a block
holds before the last rounding of the numbers, so that these make up for it. The plain scales, of
the largest number or of the range, are always among those tried: no block errs more than with them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 1 << 16  # weights at a time: what the passes over them take stays in the caches
GROUP, SUPER = 32, 256
TRIED = 6  # scales
HALF_MAX = 65504.0  # float16's largest
SMALLEST = 1e-30  # stands for a scale of 0: it makes no number of zeros


def to_q8_0(groups: Tensor) -> Tensor:
    """groups [n, 32] float32 -> blocks [n, 34] uint8."""
    d = (groups.abs().amax(-1, keepdim=True) / 127).half()
    q = (groups / _divisor(d)).round_().clamp_(-127, 127).to(torch.int8)
    return torch.cat((d.view(torch.uint8), q.view(torch.uint8)), 1)


def to_q4_0(groups: Tensor) -> Tensor:
    """groups [n, 32] float32 -> blocks [n, 18] uint8: numbers from -8 to 7."""
    index = groups.abs().argmax(-1, keepdim=True)
    largest = groups.gather(1, index)  # with its sign: it gets the end that reaches further
    best = (largest / -8).half()
    least = _squared(_rounded(groups, best, -8, 7) * best - groups)
    for i in range(TRIED):
        q = _rounded(groups, largest / (-8.5 + 0.3 * i), -8, 7)
        d = ((groups * q).sum(-1, keepdim=True) / (q * q).sum(-1, keepdim=True).clamp_min(1)).half()
        error = _squared(_rounded(groups, d, -8, 7) * d - groups)
        is_better = error < least  # not where d is too large for a half: that error is no number
        best, least = torch.where(is_better, d, best), torch.where(is_better, error, least)
    q = (_rounded(groups, best, -8, 7) + 8).to(torch.uint8)
    return torch.cat((best.view(torch.uint8), _nibbles(q)), 1)


def to_q4_k(blocks: Tensor) -> Tensor:
    """blocks [n, 256] float32 -> [n, 144] uint8: numbers from 0 to 15, less a minimum."""
    groups = blocks.view(-1, 8, GROUP)
    plain = _plain_lines(groups)
    made, error = _with_lines(groups, *_best_lines(groups, *plain))
    # The groups of a block share two units: what is better for each need not be so for all.
    made_plainly, error_plainly = _with_lines(groups, *plain)
    return torch.where(error < error_plainly, made, made_plainly)


class BlockRounding(NamedTuple):
    size: int  # numbers of a block
    largest: float  # that they reach to both sides with a scale in float16
    make: Callable[[Tensor], Tensor]


ROUND = {
    "Q8_0": BlockRounding(GROUP, 127 * HALF_MAX, to_q8_0),
    "Q4_0": BlockRounding(GROUP, 8 * HALF_MAX, to_q4_0),
    "Q4_K": BlockRounding(SUPER, 63 * HALF_MAX, to_q4_k),
}


def round_blocks(weight: Tensor, name: str) -> Tensor:
    """weight [out, in] float32 -> [out, bytes of a row] uint8.

    What is no number makes a block that is none. Raises ValueError for weights that are too large.
    """
    size, largest, make = ROUND[name]
    rows, width = weight.shape
    assert width % size == 0, (width, size)
    blocks = []
    for part in torch.split(weight.reshape(-1, size), CHUNK // size):
        reach = part.abs().nan_to_num_(0, posinf=torch.inf).amax().item() if len(part) else 0
        if reach > largest:
            raise ValueError(
                f"'--quantize' makes blocks of {name.lower()} here, which hold weights up to "
                f"{largest:.0f}, got {reach:.9g}: use '--quantize int8'."
            )
        blocks.append(make(part))
    return torch.cat(blocks).view(rows, -1)


def _divisor(scale: Tensor) -> Tensor:
    """Of the same sign, and not 0."""
    wide = scale.float()
    return torch.where(wide.abs() < SMALLEST, SMALLEST, wide)


def _rounded(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    return (x / _divisor(scale)).round_().clamp_(low, high)


def _squared(errors: Tensor) -> Tensor:
    """In place, their sum over a group."""
    return errors.square_().sum(-1, keepdim=True)


def _plain_lines(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and what is taken off [n, 8, 1]: numbers from 0 to 15 over each group's range."""
    low = groups.amin(-1, keepdim=True).clamp_max(0)
    return (groups.amax(-1, keepdim=True) - low) / 15, -low


def _best_lines(groups: Tensor, best: Tensor, minimum: Tensor) -> tuple[Tensor, Tensor]:
    """Those that err least, of groups [n, 8, 32], the plain ones among them."""
    plain, low = best, -minimum
    least = _squared(_rounded(groups - low, best, 0, 15) * best + low - groups)
    mean = groups.mean(-1, keepdim=True)
    centered = groups - mean
    for i in range(TRIED):
        q = _rounded(groups - low, plain * (15 / (14 + 0.4 * i)), 0, 15)
        # Least squares: groups = scale * q + offset, the offset 0 or below. Of centered numbers: a
        # group far from zero may have one number only, whose spread is 0, and not a rest of
        # rounding that the scale would be divided by.
        of_q = q.mean(-1, keepdim=True)
        q -= of_q
        spread = (q * q).mean(-1, keepdim=True)
        common = (centered * q).mean(-1, keepdim=True)
        scale = common / spread.clamp_min(1e-12)
        offset = mean - scale * of_q
        free = (common + mean * of_q) / (spread + of_q * of_q).clamp_min(1e-12)
        scale, offset = torch.where(offset > 0, free, scale), offset.clamp_max(0)
        error = _squared(_rounded(groups - offset, scale, 0, 15) * scale + offset - groups)
        is_better = (error < least) & (scale > 0)
        best = torch.where(is_better, scale, best)
        minimum = torch.where(is_better, -offset, minimum)
        least = torch.where(is_better, error, least)
    return best, minimum


def _with_lines(groups: Tensor, scale: Tensor, minimum: Tensor) -> tuple[Tensor, Tensor]:
    """groups [n, 8, 32] -> blocks [n, 144] uint8, their squared error [n, 1] as they are read."""
    d, six_of_scale = _six_bits(scale)
    least, six_of_minimum = _six_bits(minimum)
    scale, minimum = d.float() * six_of_scale, least.float() * six_of_minimum
    q = _rounded(groups + minimum, scale, 0, 15)
    error = (q * scale - minimum - groups).square_().sum((1, 2))[:, None]
    pairs = q.to(torch.uint8).view(-1, 4, 2, GROUP)  # two groups share 32 bytes
    packed = (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)
    head = (each.view(-1, 1).view(torch.uint8) for each in (d, least))
    return torch.cat((*head, _twelve_bytes(six_of_scale, six_of_minimum), packed), 1), error


def _six_bits(values: Tensor) -> tuple[Tensor, Tensor]:
    """[n, 8, 1], 0 or above -> their unit [n, 1, 1] float16, how many of it [n, 8, 1] uint8."""
    unit = (values.amax(1, keepdim=True) / 63).clamp_max(HALF_MAX).half()
    return unit, (values / _divisor(unit)).round_().clamp_(0, 63).to(torch.uint8)


def _twelve_bytes(scales: Tensor, minimums: Tensor) -> Tensor:
    """Eight pairs of six bits [n, 8, 1]: four of each whole, the high bits of the others above them
    and their low ones behind."""
    s, m = scales[..., 0], minimums[..., 0]
    first = s[:, :4] | s[:, 4:] >> 4 << 6
    second = m[:, :4] | m[:, 4:] >> 4 << 6
    return torch.cat((first, second, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4), 1)


def _nibbles(q: Tensor) -> Tensor:
    """[n, 32] below 16 -> [n, 16]: number j low, j + 16 high."""
    return q[:, :16] | q[:, 16:] << 4
