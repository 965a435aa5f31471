"""No quantization, in a kernel of ours: the default for fp32 where the kernels could be compiled.

Each element is one sum from the first channel to the last, whoever else is in the batch: what
`RowInvariant` finds in a library, by construction, and ready to be put on tape. It is as fast as
that one for many rows and faster for a lone one, which is computed once (`docs/cpu.md`).
"""

from torch import Tensor

from thirdeye.model.linear.method import FromDense, LinearLayer, replace_weight
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.float_linear import FloatLinearKernel, pack_floats


class NativeFloat32(FromDense):
    """y = x W^T + b. After `finish`, `weight` lies in panels: [panels, in, rows of a panel]."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def finish(self, layer: LinearLayer) -> None:
        """Put the weight in panels; the dense one is freed, unless an embedding has it too."""
        weight = pack_floats(self._library, layer.weight.detach().contiguous())
        replace_weight(layer, weight.packed)
        layer.kept = FloatLinearKernel(self._library, weight, layer.bias)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y: Tensor = layer.kept(x.contiguous())
        return y
