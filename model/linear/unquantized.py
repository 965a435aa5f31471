"""No quantization: weights are kept and multiplied in the model's dtype."""

import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.linear.method import FromDense, LinearLayer


class Unquantized(FromDense):
    """y = x W^T + b."""

    def finish(self, layer: LinearLayer) -> None:
        """Nothing to do: the weights are used as they were loaded."""

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight, layer.bias)
