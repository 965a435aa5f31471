"""Weights in 8 bits, activations in 8 bits with a scale for each 32 channels, in a kernel of ours.

The default on a CPU where the kernels could be compiled (`model/native/`), and what `Int8` is
elsewhere: half of its products, for one digit is enough where so few channels share a scale, and no
pass over the activations but the kernel's own. Within a group sums are whole numbers; over groups
they are added in one order, whatever the batch. A slow twin is in
`tests/model/native/products/test_int8_linear.py`, what the rounding costs in `docs/cpu.md`.
"""

from torch import Tensor

from thirdeye.model.linear.method import FromDense, LinearLayer, replace_weight
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.int8_linear import Int8LinearKernel, pack


class NativeInt8(FromDense):
    """y = x W^T + b. After `finish`, `weight` is packed integers: in no order of a reader's."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def finish(self, layer: LinearLayer) -> None:
        """Round the weights; the fp32 ones are freed, unless an embedding has them too."""
        weight = pack(self._library, layer.weight.detach().contiguous())
        replace_weight(layer, weight.packed)
        layer.kept = Int8LinearKernel(self._library, weight, layer.bias)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y: Tensor = layer.kept(x.contiguous())
        return y
