"""What stands between an MLP's two layers, element by element."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.config import Activation
from thirdeye.model.placement import Placement


def activation_function(activation: Activation, where: Placement) -> Callable[[Tensor], Tensor]:
    """GELU (Hendrycks, Gimpel 2016), its tanh approximation (GPT-2's), SiLU (x * sigmoid(x)), ReLU
    or its square (So et al. 2021, "Primer").

    On a CPU two of torch's kernels round the last elements of a stretch in another way than those
    before: which elements these are depends on rows and threads. `exp` and `tanh` alone do not. And
    GELU's rounds rows that lie apart, as those of a gate do, in another way than one row.
    """
    is_cpu = where.device.type == "cpu"
    functions: dict[Activation, Callable[[Tensor], Tensor]] = {
        Activation.GELU: gelu if is_cpu else F.gelu,
        Activation.GELU_TANH: gelu_tanh if is_cpu else partial(F.gelu, approximate="tanh"),
        Activation.SILU: silu if is_cpu else F.silu,
        Activation.RELU: F.relu,
        Activation.RELU2: lambda x: F.relu(x).square(),
    }
    return functions[activation]


def gated_function(activation: Activation, where: Placement) -> Callable[[Tensor, Tensor], Tensor]:
    """What comes of a gate and its partner."""
    if activation is Activation.CLAMPED_SWIGLU:
        return clamped_swiglu
    function = activation_function(activation, where)
    return lambda gate, up: function(gate) * up


SWIGLU_ALPHA, SWIGLU_LIMIT = 1.702, 7.0


def clamped_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """g sigmoid(1.702 g) (u + 1) with g at most 7 and u within +-7, as gpt-oss has it."""
    wide = gate.float().clamp(max=SWIGLU_LIMIT)
    partner = up.float().clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT) + 1
    return (wide / (wide * -SWIGLU_ALPHA).exp_().add_(1) * partner).to(gate.dtype)


def gelu(x: Tensor) -> Tensor:
    """x P(X <= x) for a standard normal X, of rows that lie together."""
    return F.gelu(x.contiguous())


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x)), each element rounded alike."""
    wide = x.float()
    return (wide / (-wide).exp_().add_(1)).to(x.dtype)


def sigmoid(x: Tensor) -> Tensor:
    """Each element rounded alike, which torch's own does not do on a CPU; float32."""
    return 1 / (-x).exp().add_(1)


def multiply_by_sigmoid(x: Tensor, gate: Tensor) -> Tensor:
    """x * sigmoid(gate), in 32 bits and back."""
    return (x.float() * sigmoid(gate.float())).to(x.dtype)


def gelu_tanh(x: Tensor) -> Tensor:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), each element rounded alike."""
    wide = x.float()
    inner = (wide * wide * wide).mul_(0.044715).add_(wide).mul_(math.sqrt(2 / math.pi))
    return inner.tanh_().add_(1).mul_(wide).mul_(0.5).to(x.dtype)


class XIELU(nn.Module):
    """alpha_p x^2 + beta x above 0, alpha_n (e^min(x, eps) - 1 - x) + beta x below (Huang,
    Schlag 2024): two of its numbers are learned, each kept as what softplus makes it from."""

    def __init__(self, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(4)  # alpha_p, alpha_n, beta, eps, as a checkpoint has them

    def forward(self, x: Tensor) -> Tensor:
        above, below, beta, eps = self.numbers()
        wide = x.float()
        curved = torch.minimum(wide, eps).exp().sub_(1).sub_(wide).mul_(below)
        return torch.where(wide > 0, wide * wide * above, curved).add_(wide * beta).to(x.dtype)

    def numbers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Those of the formula above, in its order."""
        alpha_p, alpha_n, beta, eps = self.weight.float()
        return F.softplus(alpha_p), beta + F.softplus(alpha_n), beta, eps
