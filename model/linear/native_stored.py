"""Weights as they are stored: a file's own blocks, multiplied without being rounded again.

The default on a CPU where the kernels could be compiled. Activations are rounded to 8 bits by 16
channels, twice as finely as in `native_int8.py`, and within these sums are whole numbers; a head's
largest results are computed from 16 bits. What a
file keeps in a form that has no kernel, or as plain numbers, is rounded to 8 bits. A slow twin is
in `tests/model/native/products/stored_twin.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.method import FromDense, FromStored, LinearLayer, replace_weight
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.int8_linear import GROUP
from thirdeye.model.native.products.round_blocks import ROUND, round_blocks
from thirdeye.model.native.products.stored_linear import (
    FORMATS,
    StoredLinearKernel,
    by_format,
    pack_blocks,
)
from thirdeye.model.placement import Placement


class NativeStored(FromStored):
    """y = x W^T + b. After `finish` there is no `weight` of one shape: `kept` has it."""

    stored_formats = frozenset(FORMATS)

    def __init__(self, library: Library, *, is_head: bool = False) -> None:
        """`is_head`: as `StoredLinearKernel` says."""
        self._library, self._rounded = library, NativeInt8(library)
        self._is_head = is_head

    def finish(self, layer: LinearLayer) -> None:
        """Of a layer that came as numbers."""
        self._rounded.finish(layer)

    def finish_stored(self, layer: LinearLayer, rows: Sequence[StoredTensor]) -> None:
        parts = [
            pack_blocks(
                self._library, same[0].format, [tensor.blocks for tensor in same], same[0].shape[1]
            )
            for same in by_format(rows)
        ]
        replace_weight(layer, torch.empty(0))
        layer.kept = StoredLinearKernel(self._library, parts, layer.bias, is_head=self._is_head)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y: Tensor = layer.kept(x.contiguous())
        return y


class NativeBlocks(FromDense):
    """The same with blocks that are made here, whatever the file has: `--quantize q4_0`."""

    def __init__(self, library: Library, name: str, *, is_head: bool = False) -> None:
        """`name`: of the blocks, one of ROUND. `is_head`: as `StoredLinearKernel` says."""
        self._library, self._name, self._is_head = library, name, is_head

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        size = ROUND[self._name].size
        if in_features % size:
            raise ValueError(
                f"'--quantize' {self._name.lower()} needs inputs in multiples of {size}, "
                f"got {in_features}: use {'q4_0' if size > GROUP else 'int8'}."
            )
        super().create(layer, in_features, out_features, bias, where)

    def finish(self, layer: LinearLayer) -> None:
        weight = layer.weight.detach()
        blocks = round_blocks(weight, self._name).numpy()
        part = pack_blocks(self._library, self._name, [blocks], weight.shape[1])
        replace_weight(layer, torch.empty(0))
        layer.kept = StoredLinearKernel(self._library, [part], layer.bias, is_head=self._is_head)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y: Tensor = layer.kept(x.contiguous())
        return y
