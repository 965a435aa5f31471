"""Weights to blocks as ggml's files keep them: Q8_0, Q4_0 and Q4_K, with the scales that err least.

A block's numbers are whole ones times a scale; which scale is best is tried: a few of them, each
improved once by least squares for the numbers that it gives. Scales are rounded to what a block
holds before the last rounding of the numbers, so that these make up for it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 1 << 16  # weights at a time: what the passes over them take stays in the caches
GROUP, SUPER = 32, 256
TRIED = 6  # scales
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
    best = torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for i in range(TRIED):
        q = _rounded(groups, largest / (-8.5 + 0.3 * i), -8, 7)
        d = ((groups * q).sum(-1, keepdim=True) / (q * q).sum(-1, keepdim=True).clamp_min(1)).half()
        error = (groups - _rounded(groups, d, -8, 7) * d).square_().sum(-1, keepdim=True)
        is_better = ~(error >= least)  # also where it is no number
        best, least = torch.where(is_better, d, best), torch.where(is_better, error, least)
    d = best.half()
    q = (_rounded(groups, d, -8, 7) + 8).to(torch.uint8)
    return torch.cat((d.view(torch.uint8), _nibbles(q)), 1)


def to_q4_k(blocks: Tensor) -> Tensor:
    """blocks [n, 256] float32 -> [n, 144] uint8: numbers from 0 to 15, less a minimum."""
    groups = blocks.view(-1, 8, GROUP)
    scale, minimum = _best_lines(groups)  # [n, 8, 1] each, the minimum 0 or above
    d, six_of_scale = _six_bits(scale)
    least, six_of_minimum = _six_bits(minimum)
    scale, minimum = d.float() * six_of_scale, least.float() * six_of_minimum
    q = _rounded(groups + minimum, scale, 0, 15).to(torch.uint8)
    pairs = q.view(-1, 4, 2, GROUP)  # two groups share 32 bytes
    packed = (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)
    head = (each.view(-1, 1).view(torch.uint8) for each in (d, least))
    return torch.cat((*head, _twelve_bytes(six_of_scale, six_of_minimum), packed), 1)


ROUND: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # numbers of a block, how
    "Q8_0": (GROUP, to_q8_0),
    "Q4_0": (GROUP, to_q4_0),
    "Q4_K": (SUPER, to_q4_k),
}


def round_blocks(weight: Tensor, name: str) -> Tensor:
    """weight [out, in] float32 -> [out, bytes of a row] uint8."""
    size, make = ROUND[name]
    rows, width = weight.shape
    assert width % size == 0, (width, size)
    blocks = [make(part) for part in torch.split(weight.reshape(-1, size), CHUNK // size)]
    return torch.cat(blocks).view(rows, -1)


def _divisor(scale: Tensor) -> Tensor:
    """Of the same sign, and not 0."""
    wide = scale.float()
    return torch.where(wide.abs() < SMALLEST, SMALLEST, wide)


def _rounded(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    return (x / _divisor(scale)).round_().clamp_(low, high)


def _best_lines(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and what is taken off, for numbers from 0 to 15 of each group [n, 8, 32]."""
    low = groups.amin(-1, keepdim=True).clamp_max(0)
    high = groups.amax(-1, keepdim=True).clamp_min(0)
    best, least = (high - low) / 15, torch.full_like(low, torch.inf)
    minimum = -low
    mean = groups.mean(-1, keepdim=True)
    for i in range(TRIED):
        q = _rounded(groups - low, (high - low) / (14 + 0.4 * i), 0, 15)
        # Least squares: groups = scale * q + offset, the offset 0 or below.
        of_q = q.mean(-1, keepdim=True)
        spread = (q * q).mean(-1, keepdim=True) - of_q * of_q
        scale = ((groups * q).mean(-1, keepdim=True) - mean * of_q) / spread.clamp_min(1e-12)
        offset = mean - scale * of_q
        free = (groups * q).mean(-1, keepdim=True) / (q * q).mean(-1, keepdim=True).clamp_min(1e-12)
        scale, offset = torch.where(offset > 0, free, scale), offset.clamp_max(0)
        error = (_rounded(groups - offset, scale, 0, 15) * scale + offset - groups).square_()
        error = error.sum(-1, keepdim=True)
        is_better = (error < least) & (scale > 0)
        best = torch.where(is_better, scale, best)
        minimum = torch.where(is_better, -offset, minimum)
        least = torch.where(is_better, error, least)
    return best, minimum


def _six_bits(values: Tensor) -> tuple[Tensor, Tensor]:
    """[n, 8, 1], 0 or above -> their unit [n, 1, 1] float16, how many of it [n, 8, 1] uint8."""
    unit = (values.amax(1, keepdim=True) / 63).half()
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
