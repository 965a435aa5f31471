"""Codebook types: an index names a point of a grid, four or eight weights at once; signs apart.

    IQ1_S   d, 32 bytes of indices, 8 words of (high bits, scale, shift)
    IQ1_M   32 bytes of indices, 16 of (high bits, shift), 8 of scales, d in their highest bits
    IQ2_XXS d, 8 x (4 indices, 4 x 7 signs, scale)
    IQ2_XS  d, 32 words of (index, 7 signs), 8 bytes of scales
    IQ2_S   d, 32 bytes of indices, 32 of signs, 8 of high bits, 8 of scales
    IQ3_XXS d, 64 bytes of indices, 8 x (4 x 7 signs, scale)
    IQ3_S   d, 64 bytes of indices, 8 of high bits, 32 of signs, 4 of scales

Seven signs are told and the eighth follows, so that an even number of a point's is negative.
"""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    Words,
    bit_planes,
    half,
    words,
)

DELTA = np.float32(0.125)  # by which IQ1's points are shifted off zero

Indices = npt.NDArray[np.uint16]


def iq1_s(blocks: Bytes, out: Floats) -> None:
    high = words(blocks, 34, 8, "<u2")  # [n, 8]: of each group of 32
    index = high[..., None] >> np.array([0, 3, 6, 9], np.uint16) & 7  # [n, 8, 4]
    index = index << 8 | blocks[:, 2:34].reshape(-1, 8, 4)
    scale = half(blocks, 0) * (2 * (high >> 12 & 7) + 1)  # [n, 8]
    shift = np.where(high & 0x8000, -DELTA, DELTA)
    points = _grid("IQ1_S")[index] + shift[..., None, None]  # [n, 8, 4, 8]
    np.multiply(points, scale[..., None, None], out=out.reshape(-1, 8, 4, 8))


def iq1_m(blocks: Bytes, out: Floats) -> None:
    packed = words(blocks, 48, 4, "<u2")  # [n, 4]: four scales of three bits, four bits of d
    nibbles = (packed & 0xF000) >> np.array([12, 8, 4, 0], np.uint16)
    d = np.bitwise_or.reduce(nibbles, axis=1, keepdims=True).view("<f2").astype(np.float32)
    scales = packed[..., None] >> np.array([0, 3, 6, 9], np.uint16) & 7  # [n, 4, 4]
    scale = d * (2 * scales.reshape(-1, 16) + 1)  # [n, 16]: of each group of 16
    high = blocks[:, 32:48, None] >> np.array([0, 4], np.uint8)  # [n, 16, 2]
    index = (high & 7).astype(np.uint16) << 8 | blocks[:, :32].reshape(-1, 16, 2)
    shift = np.where(high & 8, -DELTA, DELTA)
    points = _grid("IQ1_S")[index] + shift[..., None]  # [n, 16, 2, 8]
    np.multiply(points, scale[..., None, None], out=out.reshape(-1, 16, 2, 8))


def iq2_xxs(blocks: Bytes, out: Floats) -> None:
    packed = words(blocks, 2, 16, "<u4").reshape(-1, 8, 2)  # indices; signs and a scale
    index = np.ascontiguousarray(packed[..., 0]).view(np.uint8).reshape(-1, 8, 4)
    scale = half(blocks, 0) * (np.float32(0.5) + (packed[..., 1] >> 28)) * np.float32(0.25)
    _fill(out, _grid("IQ2_XXS")[index], _seven_signs(packed[..., 1]), scale)


def iq2_xs(blocks: Bytes, out: Floats) -> None:
    packed = words(blocks, 2, 32, "<u2").reshape(-1, 16, 2)
    scale = _quarter_scales(blocks, blocks[:, 66:74])
    _fill(out, _grid("IQ2_XS")[packed & 511], _signs_of()[packed >> 9], scale)


def iq2_s(blocks: Bytes, out: Floats) -> None:
    index = _with_high_bits(blocks[:, 2:34], blocks[:, 66:74], 2).reshape(-1, 16, 2)
    signs = _eight_signs(blocks[:, 34:66]).reshape(-1, 16, 2, 8)
    _fill(out, _grid("IQ2_S")[index], signs, _quarter_scales(blocks, blocks[:, 74:82]))


def iq3_xxs(blocks: Bytes, out: Floats) -> None:
    packed = words(blocks, 66, 8, "<u4")
    points = _grid("IQ3_XXS")[blocks[:, 2:66]].reshape(-1, 8, 4, 8)  # two points of four each
    scale = half(blocks, 0) * (np.float32(0.5) + (packed >> 28)) * np.float32(0.5)
    _fill(out, points, _seven_signs(packed), scale)


def iq3_s(blocks: Bytes, out: Floats) -> None:
    index = _with_high_bits(blocks[:, 2:66], blocks[:, 66:74], 1)
    points = _grid("IQ3_S")[index].reshape(-1, 8, 4, 8)
    scales = blocks[:, 106:110, None] >> np.array([0, 4], np.uint8) & 15  # [n, 4, 2]
    scale = half(blocks, 0) * (1 + 2 * scales.reshape(-1, 8))
    _fill(out, points, _eight_signs(blocks[:, 74:106]).reshape(-1, 8, 4, 8), scale)


def _fill(out: Floats, points: Floats, signs: Floats, scale: Floats) -> None:
    """points and signs [n, groups, points of a group, 8], scale [n, groups]."""
    weights = out.reshape(points.shape)
    np.multiply(points, scale[..., None, None], out=weights)
    weights *= signs


def _quarter_scales(blocks: Bytes, scales: Bytes) -> Floats:
    """Scales of four bits, low ones first: [n, 16]."""
    nibbles = (scales[..., None] >> np.array([0, 4], np.uint8) & 15).reshape(-1, 16)
    return half(blocks, 0) * (np.float32(0.5) + nibbles) * np.float32(0.25)


def _with_high_bits(low: Bytes, high: Bytes, bits: int) -> Indices:
    """Indices whose low eight bits are a byte each, the high ones `bits` of another: [n, k]."""
    above = np.unpackbits(high, axis=1, bitorder="little").reshape(len(low), -1, bits)
    place_values = np.array([256, 512], np.uint16)[:bits]
    high_part: Indices = (above * place_values).sum(axis=-1, dtype=np.uint16)
    return high_part | low


def _seven_signs(packed: Words) -> Floats:
    """[n, 8] words with four times seven signs -> [n, 8, 4, 8]."""
    signs: Floats = _signs_of()[packed[..., None] >> np.array([0, 7, 14, 21], np.uint32) & 127]
    return signs


def _eight_signs(packed: Bytes) -> Floats:
    """[n, k] bytes -> [n, 8 k]: 1, or -1 where a bit is set."""
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    return np.float32(1) - 2 * bits.astype(np.float32)


@cache
def _signs_of() -> Floats:
    """What seven signs say of eight weights: [128, 8]."""
    bits = np.unpackbits(np.arange(128, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    bits[:, 7] = bits.sum(axis=1) & 1
    return np.float32(1) - 2 * bits.astype(np.float32)


@cache
def _grid(name: str) -> Floats:
    """The points of a type's grid, [points, 4 or 8].

    Each line of the file: the type, the values that a coordinate can have, and all coordinates'
    numbers in that list, two or four bits each, in hexadecimal.
    """
    for line in Path(__file__).with_name("codebooks.txt").read_text().splitlines():
        kind, values, packed = line.split()
        if kind == name:
            table = np.array(values.split(","), np.float32)
            bits, width = (2, 8) if len(table) == 3 else (4, 4)
            numbers = bit_planes(np.frombuffer(bytes.fromhex(packed), np.uint8)[:, None], bits)
            return table[numbers.reshape(-1, width)]
    raise KeyError(name)
