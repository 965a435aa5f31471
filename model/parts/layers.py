"""The small parts of a transformer: embeddings, norms and the MLP.

Each works on the last dimension of its input and does not care how many rows there are, or whose.
Parameters are created empty; `model/loading/load_tensors.py` fills them.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thirdeye.model.declare.mlp import GatedMLPPart, MLPPart
from thirdeye.model.declare.parts import NormPart, TablePart
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.native.look_up import LookUpKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import XIELU, activation_function, gated_function
from thirdeye.model.parts.compact_table import CompactTable, as_stored, compact
from thirdeye.model.placement import Placement


class Embedding(nn.Module):
    """A table of vectors, one a token id."""

    def __init__(self, part: TablePart, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(part.num_rows, part.width)
        self._look_up: Callable[[Tensor], Tensor] = self._look_up_plainly
        self._kernel = LookUpKernel(where.native) if where.native else None
        self.is_taped = True  # a tape (`model/taped.py`) can have a look-up on it

    def shrink(self) -> None:
        """Keep the table in fewer bits, if they say the same. `weight` is then in another form, so
        nobody else may need it: a tied head that reads it, say."""
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32:
            return
        if not len(self.weight):  # it is what a file has
            return
        if kept := compact(self.weight):
            self.weight = nn.Parameter(kept.numbers, requires_grad=False)
            self._keep(kept)

    def take_stored(
        self, table: Tensor | StoredTensor, widen: Callable[[StoredTensor], Tensor]
    ) -> bool:
        """Keep the table as its file has it instead of `weight`, which nobody else may need then.
        False where nothing is gained, or it is to be of another dtype or on a GPU."""
        if self.weight.device.type != "cpu" or self.weight.dtype != torch.float32:
            return False
        kept = as_stored(table, widen)
        if kept is None:
            return False
        self.weight = nn.Parameter(self.weight[:0].clone(), requires_grad=False)
        self._keep(kept)
        return True

    def _keep(self, kept: CompactTable) -> None:
        by_kernel = kept.by_kernel(self._kernel) if self._kernel else None
        self._look_up = by_kernel or kept.look_up
        self.is_taped = by_kernel is not None

    def forward(self, ids: Tensor) -> Tensor:
        """ids [T] -> [T, hidden_size]."""
        return self._look_up(ids)

    def _look_up_plainly(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class ScaledEmbedding(Embedding):
    """The same, multiplied by a number that is rounded to the table's dtype, as Gemma's is."""

    def __init__(self, part: TablePart, where: Placement) -> None:
        super().__init__(part, where)
        self._scale = torch.tensor(part.scale, dtype=where.dtype).item()

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) * self._scale


class LearnedPositions(nn.Module):
    """GPT-2's positions: one learned vector a position, added to the token's."""

    def __init__(self, part: TablePart, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(part.num_rows, part.width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [T, hidden_size], positions [T] -> [T, hidden_size]."""
        return x + F.embedding(positions, self.weight)


class NoPositions(nn.Module):
    """For models that rotate their queries and keys instead (`model/parts/rope.py`)."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        return x


class AddNorm(nn.Module):
    """A norm that can also add to the stream, which is what happens right before it is asked."""

    def add(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """x, delta [T, hidden_size] -> (x + delta, its norm)."""
        x = x + delta
        return x, self(x)


class NoNorm(AddNorm):
    """For models that norm what is added to the stream instead of what is read from it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Scaled(nn.Module):
    """x * factor: of what a layer adds to the stream, or of logits."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class LayerScale(nn.Module):
    """x times one learned number: of the stream behind a layer (Gemma 4)."""

    def __init__(self, where: Placement) -> None:
        super().__init__()
        self.weight = where.empty(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class SoftCap(nn.Module):
    """cap * tanh(x / cap): about x where it is small, and never beyond the cap."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self._cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / self._cap) * self._cap


class Clip(nn.Module):
    """Every number is cut to +- `limit`."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-self._limit, self._limit)


class LayerNorm(AddNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias (Ba, Kiros, Hinton 2016); some models have
    no bias, and some no weight either.

    Statistics are taken in fp32 whatever the dtype; torch's kernel sees to that.
    """

    def __init__(self, part: NormPart, where: Placement) -> None:
        super().__init__()
        self.eps = part.eps
        self.weight: Tensor
        if part.has_weight:
            self.weight = where.empty(part.size)
        else:
            ones = torch.ones(part.size, dtype=where.dtype, device=where.device)
            self.register_buffer("weight", ones, persistent=False)
        self.bias = where.empty(part.size) if part.has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(AddNorm):
    """y = x / sqrt(mean(x^2) + eps) * weight (Zhang, Sennrich 2019), in fp32 up to the weight."""

    def __init__(
        self, hidden_size: int, eps: float, where: Placement, *, has_weight: bool = True
    ) -> None:
        """Without a weight there is one that is no parameter, of ones."""
        super().__init__()
        self.eps = eps
        self.weight: Tensor
        if has_weight:
            self.weight = where.empty(hidden_size)
        else:
            ones = torch.ones(hidden_size, dtype=where.dtype, device=where.device)
            self.register_buffer("weight", ones, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class MLP(nn.Module):
    """down(act(up(x))): each token thinks for itself, in a wider space."""

    def __init__(self, part: MLPPart, where: Placement) -> None:
        super().__init__()
        self.up = make_linear(part.up, where)
        self.down = make_linear(part.down, where)
        self.act = XIELU(where) if part.act else activation_function(part.activation, where)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.neurons(x))

    def neurons(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> what `down` reads, [T, intermediate_size]."""
        neurons: Tensor = self.act(self.up(x))
        return neurons


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)): with SiLU, the SwiGLU of Shazeer 2020."""

    def __init__(self, part: GatedMLPPart, where: Placement) -> None:
        super().__init__()
        self.gate_up = make_linear(part.gate_up, where)
        self.down = make_linear(part.down, where)
        self.act = gated_function(part.activation, where)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.neurons(x))

    def neurons(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> what `down` reads, [T, intermediate_size]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.act(gate, up)
