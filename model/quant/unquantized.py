"""No quantization: weights are kept and multiplied in the model's dtype."""

import torch.nn.functional as F
from torch import Tensor

from model.placement import Placement
from model.quant.base import LinearLayer


class Unquantized:
    """y = x W^T + b."""

    def create(
        self, layer: LinearLayer, in_features: int, out_features: int, bias: bool, where: Placement
    ) -> None:
        layer.register_parameter("weight", where.empty(out_features, in_features))
        layer.register_parameter("bias", where.empty(out_features) if bias else None)

    def finish(self, layer: LinearLayer) -> None:
        """Nothing to do: the weights are used as they were loaded."""

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight, layer.bias)
