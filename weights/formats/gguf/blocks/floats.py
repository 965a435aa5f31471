"""Four-bit floats (E2M1) under a scale that is an 8-bit float.

    MXFP4  1 byte e, 16 of q                       weight = 2^(e - 128) * VALUES[q], 32 of them
    NVFP4  4 bytes of scales (E4M3), 32 of q       weight = scale / 2 * VALUES[q], 16 to each scale

VALUES are doubled to be whole numbers, the scales halved for it. NVFP4's scales have no sign: 0x7f
is nan in E4M3, and nought here.
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    bit_planes,
    field,
    look_up,
    scale_groups,
)

VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


def mxfp4(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 1, 17), 4)
    scale_groups(look_up(VALUES, q), POWERS[blocks[:, :1]], out)


def nvfp4(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 4, 36).reshape(-1, 4, 8), 4)  # [n, 4, 2, 8]
    scale_groups(look_up(VALUES, q), UNSIGNED_E4M3[blocks[:, :4]], out)


def _powers() -> Floats:
    """2^(e - 128) for each byte e; the first two are no normal floats, and right all the same."""
    return np.ldexp(np.float32(1), np.arange(256) - 128).astype(np.float32)


def _unsigned_e4m3() -> Floats:
    """Half the number of each byte: 4 bits of exponent (bias 7), 3 of fraction; no sign is read."""
    byte = np.arange(256)
    exponent, fraction = byte >> 3 & 15, byte & 7
    normal = np.ldexp(1 + fraction / 8, exponent - 7)
    values = np.where(exponent == 0, np.ldexp(fraction, -9), normal) / 2
    values[0x7F] = 0
    table: Floats = values.astype(np.float32)
    return table


POWERS = _powers()
UNSIGNED_E4M3 = _unsigned_e4m3()
