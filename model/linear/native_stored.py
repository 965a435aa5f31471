"""Weights as they are stored: a file's own blocks, multiplied without being rounded again.

The default on a CPU where the kernels could be compiled. Activations are rounded as in
`native_int8.py`, by 32 channels, and within these sums are whole numbers. What a file keeps in a
form that has no kernel, or as plain numbers, is rounded to 8 bits. A slow twin is in
`tests/model/native/products/stored_twin.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.method import FromStored, LinearLayer, replace_weight
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import (
    FORMATS,
    StoredLinearKernel,
    joined,
    pack_blocks,
)


class NativeStored(FromStored):
    """y = x W^T + b. After `finish` there is no `weight` of one shape: `kept` has it."""

    stored_formats = frozenset(FORMATS)

    def __init__(self, library: Library) -> None:
        self._library, self._rounded = library, NativeInt8(library)

    def finish(self, layer: LinearLayer) -> None:
        """Of a layer that came as numbers."""
        self._rounded.finish(layer)

    def finish_stored(self, layer: LinearLayer, rows: Sequence[StoredTensor]) -> None:
        parts = [pack_blocks(self._library, tensor) for tensor in joined(rows)]
        replace_weight(layer, torch.empty(0))
        layer.kept = StoredLinearKernel(self._library, parts, layer.bias)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y: Tensor = layer.kept(x.contiguous())
        return y
