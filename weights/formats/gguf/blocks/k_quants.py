"""The K types: 256 weights a block, in groups of 16 or 32 whose scales are small integers.

Q2_K  16 bytes of scales, 64 of q, d, dmin           weight = d * sc * q - dmin * mn
Q3_K  32 bytes of high bits, 64 of q, 12 of scales, d      = d * (sc - 32) * (q - 4)
Q4_K  d, dmin, 12 bytes of scales, 128 of q                = d * sc * q - dmin * mn
Q5_K  d, dmin, 12 bytes of scales, 32 of high bits, 128    = d * sc * q - dmin * mn
Q6_K  128 bytes of low, 64 of high bits, 16 scales, d      = d * sc * (q - 32)
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    Words,
    bit_planes,
    field,
    half,
    nibbles,
    scale_groups,
    widen,
    words,
)


def q2_k(blocks: Bytes, out: Floats) -> None:
    scales = field(blocks, 0, 16)
    scale = half(blocks, 80) * (scales & 15)  # [n, 16]
    minimum = half(blocks, 82) * (scales >> 4)
    q = bit_planes(field(blocks, 16, 80).reshape(-1, 2, 32), 2)  # [n, 2, 4, 32]
    scale_groups(q, scale, out, minus=minimum)


def q3_k(blocks: Bytes, out: Floats) -> None:
    low = bit_planes(field(blocks, 32, 96).reshape(-1, 2, 32), 2).reshape(-1, 256)
    high = bit_planes(field(blocks, 0, 32), 1).reshape(-1, 256)  # bit g of byte j: weight j of g
    high ^= 1
    high <<= 2
    scale = half(blocks, 108) * _scales_of_q3_k(field(blocks, 96, 108))  # [n, 16]
    scale_groups(low.view(np.int8) - high.view(np.int8), scale, out)


def q4_k(blocks: Bytes, out: Floats) -> None:
    scale, minimum = _scales_and_minimums(blocks)
    even, odd = nibbles(field(blocks, 16, 144))  # of 32 bytes each the low ones are a group
    scale_groups(even, scale, out, odd=odd, minus=minimum)


def q5_k(blocks: Bytes, out: Floats) -> None:
    scale, minimum = _scales_and_minimums(blocks)
    q = bit_planes(field(blocks, 16, 48), 1).reshape(-1, 256)  # bit g of byte j: weight j of g
    q <<= 4
    q |= bit_planes(field(blocks, 48, 176).reshape(-1, 4, 32), 4).reshape(-1, 256)
    scale_groups(q, scale, out, minus=minimum)


def q6_k(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 128, 192).reshape(-1, 2, 32), 2).reshape(-1, 256)  # [n, 2, 4, 32]
    q <<= 4
    q |= bit_planes(field(blocks, 0, 128).reshape(-1, 2, 64), 4).reshape(-1, 256)
    scale = half(blocks, 208) * words(blocks, 192, 16, "i1")  # [n, 16]
    scale_groups(q.view(np.int8) - np.int8(32), scale, out)


def _scales_and_minimums(blocks: Bytes) -> tuple[Floats, Floats]:
    """Of eight groups, [n, 8] each: the integers of six bits times d and dmin.

    Four bytes hold a scale and two bits of a later one, four a minimum and two bits of a later one,
    and four the low nibbles of both of these. All four bytes are taken at once.
    """
    low, high, later_low = np.uint32(0x3F3F3F3F), np.uint32(0x30303030), np.uint32(0x0F0F0F0F)
    head = field(blocks, 0, 16)
    _, scale, minimum, later = head.view("<u4").T
    integers = np.empty((2, len(blocks), 2), np.uint32)
    integers[0, :, 0] = scale & low
    integers[0, :, 1] = (later & later_low) | (scale >> 2 & high)
    integers[1, :, 0] = minimum & low
    integers[1, :, 1] = (later >> 4 & later_low) | (minimum >> 2 & high)
    d = widen(head.view("<f2")[:, :2]).T[..., None]  # [2, n, 1]
    scales, minimums = integers.view(np.uint8) * d
    return scales, minimums


def _scales_of_q3_k(packed: Bytes) -> Words:
    """[n, 12] bytes -> 16 scales from -32 to 31: low nibbles of 8 bytes, high bits in 4 more."""
    low = bit_planes(packed[:, :8], 4).reshape(-1, 16)
    high = bit_planes(packed[:, 8:], 2).reshape(-1, 16)
    return (low | high << 4).view(np.int8) - np.int8(32)
