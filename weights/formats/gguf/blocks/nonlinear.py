"""Four bits that look a value up, from a table that is finer around zero.

IQ4_NL  d, 16 bytes of q                                     weight = d * VALUES[q]
IQ4_XS  d, 2 bytes of scales' high bits, 4 of low, 128 of q  weight = d * (sc - 32) * VALUES[q]
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    bit_planes,
    field,
    half,
    look_up,
    scale_groups,
    words,
)

VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)


def iq4_nl(blocks: Bytes, out: Floats) -> None:
    scale_groups(look_up(VALUES, bit_planes(field(blocks, 2, 18), 4)), half(blocks, 0), out)


def iq4_xs(blocks: Bytes, out: Floats) -> None:
    high = words(blocks, 2, 1, "<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3  # [n, 8]
    low = blocks[:, 4:8, None] >> np.array([0, 4], np.uint8) & 15  # [n, 4, 2]
    scales = (low.reshape(-1, 8) | high.astype(np.uint8) << 4).view(np.int8) - np.int8(32)
    q = bit_planes(field(blocks, 8, 136).reshape(-1, 8, 16), 4)  # [n, 8, 2, 16]
    scale_groups(look_up(VALUES, q), half(blocks, 0) * scales, out)
