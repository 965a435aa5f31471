"""-1, 0 and 1, for models trained so.

    TQ1_0  48 + 4 bytes of five and four digits to base 3, d    weight = d * (digit - 1)
    TQ2_0  64 bytes of q, d                                     weight = d * (q - 1)

A byte of TQ1_0 is a fraction of 256: times 3 its next digit stands before the point.
"""

import numpy as np

from thirdeye.weights.formats.gguf.blocks.block_fields import (
    Bytes,
    Floats,
    bit_planes,
    field,
    half,
    scale_groups,
)

POWERS_OF_3 = np.array([1, 3, 9, 27, 81], np.uint8)


def tq1_0(blocks: Bytes, out: Floats) -> None:
    digits = (
        _digits(blocks[:, :32], 5),
        _digits(blocks[:, 32:48], 5),
        _digits(blocks[:, 48:52], 4),
    )
    q = np.concatenate(digits, axis=1).view(np.int8) - np.int8(1)  # [n, 256]
    scale_groups(q, half(blocks, 52), out)


def tq2_0(blocks: Bytes, out: Floats) -> None:
    q = bit_planes(field(blocks, 0, 64).reshape(-1, 2, 32), 2)  # [n, 2, 4, 32]
    scale_groups(q.view(np.int8) - np.int8(1), half(blocks, 64), out)


def _digits(packed: Bytes, count: int) -> Bytes:
    """[n, k] bytes -> [n, count * k] digits 0..2: the first of all bytes, then the second, ..."""
    shifted = packed[:, None, :] * POWERS_OF_3[:count, None]  # modulo 256
    return (shifted.astype(np.uint16) * 3 >> 8).astype(np.uint8).reshape(len(packed), -1)
