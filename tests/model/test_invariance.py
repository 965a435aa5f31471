"""A token's bits do not know how many rows there are, which is theirs, or who else is there.

`docs/numerics.md` says what was measured; these are the same measurements, held.
"""

import pytest
import torch
from torch import Tensor

from model.linear import Linear
from model.placement import Placement
from model.quant.base import LinearMethod
from model.quant.row_invariant import RowInvariant
from tests.model.tiny import CPU

FP32 = Placement(torch.float32, CPU)
ROWS = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100]
SHAPES = [(8, 24), (20, 7), (48, 32), (576, 960), (576, 3072), (1024, 64), (1025, 64), (1536, 576)]


def random_linear(shape: tuple[int, int], method: LinearMethod, dtype: torch.dtype) -> Linear:
    layer = Linear(*shape, True, Placement(dtype, CPU), method=method)
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    layer.finish()
    return layer


def heights_that_differ(layer: Linear, x: Tensor) -> list[int]:
    """Numbers of rows for which some row, taken from some place, has other bits than in all."""
    together = layer(x)
    return [
        rows
        for rows in ROWS
        for start in (0, 1, len(x) - rows)
        if not torch.equal(layer(x[start : start + rows]), together[start : start + rows])
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_a_product(shape: tuple[int, int], dtype: torch.dtype, threads: int) -> None:
    """Model shapes and odd ones: every number of rows, first, middle and last of a batch."""
    torch.set_num_threads(threads)
    x = torch.randn(101, shape[0], generator=torch.Generator().manual_seed(1)).to(dtype)
    assert heights_that_differ(random_linear(shape, RowInvariant(), dtype), x) == []
