"""Weights as fewer bits and scales: what the GPU's quantized layers keep, and what it is worth.

    int8   [out, in] int8         one scale a row
    fp8    [out, in] float8       one scale a row: 4 bits of exponent, 3 of mantissa (e4m3)
    int4   [out, in / 2] uint8    one scale a group of a row's inputs, 128 where they divide

Rounding is to the nearest, each scale from the largest number it covers, no data needed. All three
are rows over outputs and columns over inputs, as the weights were: a shard of either is rounded as
a layer of its own, and splits by inputs fall between groups. `dequantize` is the twin of every
kernel that multiplies by these.

A byte of int4 holds the number of column c of its group in the low half and of column c + group / 2
in the high half, 8 added to each: a kernel takes a group as two tiles that need no shuffling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn
LARGEST_FP8 = 448.0
LARGEST_INT8 = 127.0
INT4_OFFSET = 8  # numbers -8 .. 7 are kept as 0 .. 15
GROUPS = (128, 64, 32)  # inputs that share an int4 scale: the largest that divides a row
SMALLEST = 1e-30  # a maximum counts as this at least: a row of zeros stays zeros


@dataclass(frozen=True, slots=True)
class RoundedWeight:
    """One layer's weights. `group` is 0 where a row has one scale."""

    numbers: Tensor  # [out, in] int8 or float8, or [out, in / 2] uint8
    scales: Tensor  # [out, 1] float32, or [out, in / group] bfloat16
    group: int

    @property
    def is_packed(self) -> bool:
        """Whether a byte holds two numbers."""
        return self.group > 0

    @property
    def out_features(self) -> int:
        return self.numbers.shape[0]

    @property
    def in_features(self) -> int:
        return self.numbers.shape[1] * (2 if self.is_packed else 1)

    def dequantize(self) -> Tensor:
        """What the numbers stand for: [out, in] float32."""
        whole = unpack(self.numbers, self.group) if self.is_packed else self.numbers.float()
        width = self.in_features // self.scales.shape[1]
        wide = whole.reshape(self.out_features, -1, width) * self.scales.float()[:, :, None]
        return wide.flatten(1)


def round_to_int8(weight: Tensor) -> RoundedWeight:
    """weight [out, in] of any dtype -> its rows in 8 bits, -127 to 127."""
    scales = largest(weight).clamp_min_(SMALLEST) / LARGEST_INT8
    return RoundedWeight(weight.div(scales).round_().to(torch.int8), scales, 0)


def round_to_fp8(weight: Tensor) -> RoundedWeight:
    """weight [out, in] of any dtype -> its rows in 8-bit floats."""
    scales = largest(weight).clamp_min_(SMALLEST) / LARGEST_FP8
    return RoundedWeight(weight.div(scales).to(FP8), scales, 0)


def round_to_int4(weight: Tensor) -> RoundedWeight:
    """weight [out, in] of any dtype -> groups of its rows in 4 bits, -8 to 7.

    The number that is largest without its sign becomes -8: only that end of the range has it.
    """
    group = group_size(weight.shape[1])
    groups = weight.float().reshape(len(weight), -1, group)  # [out, G, group]
    top = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scales = (top / -INT4_OFFSET).to(torch.bfloat16)  # first, so that numbers meet what is kept
    divisor = torch.where(scales == 0, 1.0, scales.float())
    numbers = groups.div(divisor).round_().clamp_(-INT4_OFFSET, INT4_OFFSET - 1)
    low, high = numbers.add_(INT4_OFFSET).to(torch.uint8).chunk(2, dim=2)
    return RoundedWeight((low | high << 4).flatten(1), scales.squeeze(2), group)


def unpack(numbers: Tensor, group: int) -> Tensor:
    """[out, in / 2] uint8 -> [out, in] float32, -8 to 7."""
    pairs = numbers.reshape(len(numbers), -1, group // 2)  # [out, G, group / 2]
    both = torch.cat((pairs & 15, pairs >> 4), dim=2)
    return both.flatten(1).float() - INT4_OFFSET


def largest(weight: Tensor) -> Tensor:
    """Of each row, without its sign: [out, 1] float32."""
    return weight.abs().amax(1, keepdim=True).float()


def group_size(in_features: int) -> int:
    """The largest group that divides a row: `check_inputs` in `weight_only.py` saw to one."""
    return next(group for group in GROUPS if in_features % group == 0)
