"""Four-bit floats (E2M1), two to a byte, in groups of a row that share a scale.

The lower half of a byte is the first number of the two.
"""

from typing import TYPE_CHECKING

from thirdeye.weights.formats.quantized.decode.packed_integers import split_bytes

if TYPE_CHECKING:
    from torch import Tensor

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # and the negatives of these
BIAS = 127  # of an exponent that is a byte


def scale_pairs(packed: "Tensor", scales: "Tensor") -> "Tensor":
    """packed [n, in / 2] uint8, scales [n, groups] -> [n, in] float32."""
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    table = torch.tensor([*VALUES, *(-value for value in VALUES)])
    numbers = table[split_bytes(packed, 4).int()]
    height, groups = scales.shape
    numbers = numbers.reshape(height, groups, -1)
    numbers *= scales.float()[..., None]
    return numbers.reshape(height, -1)


def powers_of_two(exponents: "Tensor") -> "Tensor":
    """[...] uint8 -> 2^(e - 127), float32; 255 stands for none."""
    import torch  # noqa: PLC0415

    table = torch.ldexp(torch.ones(256, dtype=torch.float64), torch.arange(256) - BIAS).float()
    table[255] = torch.nan
    return table[exponents.int()]
