"""The K types: 256 weights a block, in groups of 16 or 32 whose scales are small integers.

Q2_K  16 bytes of scales, 64 of q, d, dmin           weight = d * sc * q - dmin * mn
Q3_K  32 bytes of high bits, 64 of q, 12 of scales, d      = d * (sc - 32) * (q - 4)
Q4_K  d, dmin, 12 bytes of scales, 128 of q                = d * sc * q - dmin * mn
Q5_K  d, dmin, 12 bytes of scales, 32 of high bits, 128    = d * sc * q - dmin * mn
Q6_K  128 bytes of low, 64 of high bits, 16 scales, d      = d * sc * (q - 32)
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import Bytes, Floats, Words, bit_planes, half


def q2_k(blocks: Bytes, out: Floats) -> None:
    scales = blocks[:, :16]
    scale = half(blocks, 80) * (scales & 15)  # [n, 16]
    minimum = half(blocks, 82) * (scales >> 4)
    q = bit_planes(blocks[:, 16:80].reshape(-1, 2, 32), 2)  # [n, 2, 4, 32]
    _scale_and_shift(q, scale, minimum, out)


def q3_k(blocks: Bytes, out: Floats) -> None:
    low = bit_planes(blocks[:, 32:96].reshape(-1, 2, 32), 2).reshape(-1, 16, 16)
    high = bit_planes(blocks[:, :32], 1).reshape(-1, 16, 16)  # bit g of byte j: weight j of group g
    q = low.view(np.int8) - ((high ^ 1) << 2).view(np.int8)
    scale = half(blocks, 108) * _scales_of_q3_k(blocks[:, 96:108])  # [n, 16]
    np.multiply(q, scale[..., None], out=out.reshape(-1, 16, 16))


def q4_k(blocks: Bytes, out: Floats) -> None:
    scales, minimums = _six_bit_pairs(blocks[:, 4:16])
    q = bit_planes(blocks[:, 16:].reshape(-1, 4, 32), 4)  # [n, 4, 2, 32]
    _scale_and_shift(q, half(blocks, 0) * scales, half(blocks, 2) * minimums, out)


def q5_k(blocks: Bytes, out: Floats) -> None:
    scales, minimums = _six_bit_pairs(blocks[:, 4:16])
    low = bit_planes(blocks[:, 48:].reshape(-1, 4, 32), 4).reshape(-1, 8, 32)
    q = low | bit_planes(blocks[:, 16:48], 1) << 4  # bit g of byte j: weight j of group g
    _scale_and_shift(q, half(blocks, 0) * scales, half(blocks, 2) * minimums, out)


def q6_k(blocks: Bytes, out: Floats) -> None:
    low = bit_planes(blocks[:, :128].reshape(-1, 2, 64), 4).reshape(-1, 2, 4, 32)
    high = bit_planes(blocks[:, 128:192].reshape(-1, 2, 32), 2)  # [n, 2, 4, 32]
    q = (low | high << 4).view(np.int8) - 32
    scale = half(blocks, 208) * blocks[:, 192:208].view(np.int8)  # [n, 16]
    np.multiply(q.reshape(-1, 16, 16), scale[..., None], out=out.reshape(-1, 16, 16))


def _scale_and_shift(q: Words, scale: Floats, minimum: Floats, out: Floats) -> None:
    """Numbers in groups, and for each group [n, groups] its scale and its minimum."""
    groups = out.reshape(len(out), scale.shape[1], -1)
    groups[...] = q.reshape(groups.shape)
    groups *= scale[..., None]
    groups -= minimum[..., None]


def _six_bit_pairs(packed: Bytes) -> tuple[Bytes, Bytes]:
    """[n, 12] bytes -> scales and minimums of eight groups, [n, 8] each.

    Four bytes hold a scale and two bits of a later one, four a minimum and two bits of a later one,
    and four the low nibbles of both of these.
    """
    scale, minimum, later = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    return (
        np.concatenate((scale & 63, (later & 15) | (scale >> 2 & 48)), axis=1),
        np.concatenate((minimum & 63, (later >> 4) | (minimum >> 2 & 48)), axis=1),
    )


def _scales_of_q3_k(packed: Bytes) -> "np.ndarray[tuple[int, int], np.dtype[np.int8]]":
    """[n, 12] bytes -> 16 scales from -32 to 31: low nibbles of 8 bytes, high bits in 4 more."""
    low = bit_planes(packed[:, :8], 4).reshape(-1, 16)
    high = bit_planes(packed[:, 8:], 2).reshape(-1, 16)
    return (low | high << 4).view(np.int8) - np.int8(32)
