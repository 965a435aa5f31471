"""The quantization protocol: what a `Linear` asks of the format its weights are kept in.

A format is three functions. `create` makes the parameters that a checkpoint's tensors are copied
into, `finish` turns them into what `apply` wants (pack, scale, round) once all of them are filled,
and `apply` multiplies. A new format is a new file beside this one: `Linear` and the model above it
do not change. A method that multiplies by a file's own blocks is a `FromStored`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.placement import Placement


class LinearLayer(nn.Module):
    """What a method puts its parameters on: `Linear` or `TiedLinear` (`linear.py`)."""

    weight: Tensor
    bias: Tensor | None
    kept: Any  # what `finish` made of the weight, where a format needs more than one tensor


class LinearMethod(Protocol):
    """How one linear layer's weights are kept and multiplied. All state is on the layer."""

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        """Register the empty parameters: `weight` [out, in], and `bias` [out] or None."""

    def finish(self, layer: LinearLayer) -> None:
        """Called once, when every parameter of the layer holds its checkpoint's values."""

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out], in x's dtype."""


class FromDense:
    """`create` of the formats that are made here, from weights in the model's own dtype."""

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        layer.register_parameter("weight", where.empty(out_features, in_features))
        layer.register_parameter("bias", where.empty(out_features) if bias else None)


class FromStored(FromDense, ABC):
    """A method that can also multiply by blocks as a file keeps them, of the formats it names."""

    stored_formats: frozenset[str]  # as `StoredTensor.format`

    @abstractmethod
    def finish_stored(self, layer: LinearLayer, rows: Sequence[StoredTensor]) -> None:
        """`finish` where all of the weight is stored blocks [n, in], top to bottom, whose formats
        may differ. They may be views of the file: copy what shall be in memory."""


def replace_weight(layer: LinearLayer, weight: Tensor) -> None:
    """What a format made of the weight takes its place; a tied head only borrows its table, which
    lives on as the embedding's."""
    is_own = isinstance(layer.weight, nn.Parameter)
    layer.weight = nn.Parameter(weight, requires_grad=False) if is_own else weight
