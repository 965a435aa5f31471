"""No quantization, and rows that do not know of each other: the default on the CPU.

`F.linear` sums in another order for 1 row, for 2 and 3, and for more, so the bits of a token would
depend on its batch. oneDNN's product over weights packed in advance sums every row the same way
from 2 rows up, whatever their number, place and threads; only a lone row with more than 1024 inputs
goes another way. So a lone row is computed twice, which costs nothing: its time is that of reading
the weights. It is also the faster product. Measured in `docs/numerics.md`, held by `tests/model`.

A processor with tiles for bfloat16 (AMX) takes another kernel from 33 rows on, so there every
product has 32 rows, the last one's filled up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.linear.method import FromDense, LinearLayer, replace_weight
from thirdeye.model.placement import Placement

MIN_ROWS = 2
TILE_ROWS = 32


class RowInvariant(FromDense):
    """y = x W^T + b. After `finish`, `weight` is packed: `weight.to_dense()` gives it back."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._product = _in_tiles if dtype is torch.bfloat16 and _has_tiles() else _at_once

    @staticmethod
    def is_available(where: Placement) -> bool:
        """Whether torch was built with oneDNN, and the processor has what it needs."""
        if where.device.type != "cpu" or not torch._C._has_mkldnn:
            return False
        if where.dtype == torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return where.dtype == torch.float32

    def finish(self, layer: LinearLayer) -> None:
        """Pack the weight; the dense one is freed, unless an embedding has it too."""
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        replace_weight(layer, packed)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return self._product(x, layer.weight, layer.bias)


def _has_tiles() -> bool:
    return bool(torch.cpu._is_amx_tile_supported())


def _at_once(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.expand(MIN_ROWS, -1) if len(x) == 1 else x
    return _packed_linear(rows, weight, bias)[: len(x)]


def _in_tiles(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not len(x):  # a chunk of a prompt after which nobody is sampled
        return x.new_empty(0, weight.shape[0])
    padded = F.pad(x, (0, 0, 0, -len(x) % TILE_ROWS))
    starts = range(0, len(padded), TILE_ROWS)
    parts = [_packed_linear(padded[i : i + TILE_ROWS], weight, bias) for i in starts]
    return torch.cat(parts)[: len(x)]


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [rows, in] -> [rows, out]"""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
