"""Floats as they are, and the first block types: a scale, perhaps a minimum, then the integers.

The scale `d` and the minimum `m` are float16. Nibbles are split in halves: byte j holds weight j in
its low and weight j + 16 in its high four bits. Types of five bits keep the fifth apart, bit j of
32 for weight j.

    Q4_0  d, 16 bytes of q               weight = (q - 8) * d
    Q4_1  d, m, 16 bytes of q            weight = q * d + m
    Q5_0  d, 4 bytes of bits, 16 of q    weight = (q - 16) * d
    Q5_1  d, m, 4 bytes of bits, 16      weight = q * d + m
    Q8_0  d, 32 signed bytes             weight = q * d
    Q1_0  d, 16 bytes of bits            weight = +d or -d, 128 of them
    Q2_0  d, 16 bytes of q               weight = (q - 1) * d, 64 of them

The last two are from 2026, and take their bits in order.
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    bit_planes,
    field,
    half,
    scale_groups,
    widen,
    words,
)


def f32(blocks: Bytes, out: Floats) -> None:
    out[...] = blocks.view("<f4")


def f16(blocks: Bytes, out: Floats) -> None:
    out[...] = widen(words(blocks, 0, 1, "<f2"))


def bf16(blocks: Bytes, out: Floats) -> None:
    """The upper half of a float32."""
    np.left_shift(blocks.view("<u2"), 16, out=out.view(np.uint32), dtype=np.uint32)


def q4_0(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 2, 18), 4).view(np.int8) - np.int8(8)  # [n, 2, 16]
    scale_groups(q, half(blocks, 0), out)


def q4_1(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 4, 20), 4)
    scale_groups(q, half(blocks, 0), out, plus=half(blocks, 2))


def q5_0(blocks: Bytes, out: Floats) -> None:
    q = _five_bits(field(blocks, 2, 6), field(blocks, 6, 22)).view(np.int8) - np.int8(16)
    scale_groups(q, half(blocks, 0), out)


def q5_1(blocks: Bytes, out: Floats) -> None:
    q = _five_bits(field(blocks, 4, 8), field(blocks, 8, 24))
    scale_groups(q, half(blocks, 0), out, plus=half(blocks, 2))


def q8_0(blocks: Bytes, out: Floats) -> None:
    scale_groups(words(blocks, 2, 32, "i1"), half(blocks, 0), out)


def q1_0(blocks: Bytes, out: Floats) -> None:
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")  # [n, 128]
    np.multiply(bits.astype(np.int8) * 2 - 1, half(blocks, 0), out=out)


def q2_0(blocks: Bytes, out: Floats) -> None:
    q = blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3  # [n, 16, 4]
    np.multiply(q.reshape(-1, 64).view(np.int8) - np.int8(1), half(blocks, 0), out=out)


def _five_bits(fifth: Bytes, packed: Bytes) -> Bytes:
    """[n, 4] bytes of high bits and [n, 16] of nibbles -> [n, 32] values 0..31."""
    high = np.unpackbits(fifth.reshape(-1), bitorder="little").reshape(-1, 32)
    high <<= 4
    high |= bit_planes(packed, 4).reshape(-1, 32)
    return high
