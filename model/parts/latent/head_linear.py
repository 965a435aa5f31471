"""A matrix for each head: what leads queries to latents, and what heads saw of latents to values.

They are kept in the model's own dtype, however linear layers are: what is stored in blocks lies for
a product that nobody makes here, or across it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.declare.latent import HeadLinearPart
from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.latent_kernels import HeadLinearKernel
from thirdeye.model.placement import Placement


class HeadLinear(nn.Module):
    """y[t, h] = W_h x[t, h], head by head, of those that are this rank's. The first `num_passed`
    channels of a head are let through as they are.

    The products are those of linear layers without quantization: row by row on a CPU.
    """

    def __init__(self, part: HeadLinearPart, where: Placement, num_passed: int = 0) -> None:
        super().__init__()
        self._part, self._where = part, replace(where, quantize="none")
        self.num_heads, self.num_passed = part.num_heads // where.ranks.size, num_passed
        self.weight = where.empty(self.num_heads * part.rows, part.columns)
        self._layers: list[Linear] = []

    def matrices(self) -> Tensor:
        """[num_heads, out, in], a view of `weight`."""
        matrices = self.weight.detach().view(self.num_heads, self._part.rows, self._part.columns)
        return matrices.mT if self._part.is_turned else matrices

    def finish(self) -> None:
        """Call once, after the last parameter is filled and before the first `forward`."""
        for matrix in self.matrices():
            out_features, in_features = matrix.shape
            layer = Linear(in_features, out_features, False, self._where)
            layer.weight.detach().copy_(matrix)
            layer.finish()
            self._layers.append(layer)
        self._forget()

    def forward(self, x: Tensor) -> Tensor:
        """x [T, num_heads, passed + in] -> [T, num_heads, passed + out]."""
        passed, rows = x.tensor_split([self.num_passed], dim=-1)
        made = [layer(rows[:, head].contiguous()) for head, layer in enumerate(self._layers)]
        return torch.cat((passed, torch.stack(made, dim=1)), dim=-1)

    def _forget(self) -> None:
        """The weights are elsewhere now."""
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)


class NativeHeadLinear(HeadLinear):
    """The same in a kernel of ours, all heads at once; a CPU's alone."""

    def finish(self) -> None:
        assert self._where.native is not None
        self._kernel = HeadLinearKernel(self._where.native, self.matrices())
        self._forget()

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), self.num_heads, self.num_passed + self._part.out_features)
        self.write(x, y)
        return y

    def write(self, x: Tensor, y: Tensor) -> None:
        """`forward`, into y [T, num_heads, passed + out], whose heads lie side by side."""
        self._kernel(x, y, self.num_passed)


class FusedHeadLinear(HeadLinear):
    """The same in a kernel in triton, whose sums are cut one way for every number of rows. It is
    imported here: a machine without triton has everything but this."""

    def __init__(self, part: HeadLinearPart, where: Placement, num_passed: int = 0) -> None:
        super().__init__(part, where, num_passed)
        from thirdeye.model.kernels.products import grouped_matmul  # noqa: PLC0415

        self._kernels: Any = grouped_matmul

    def finish(self) -> None:
        self._matrices = self.matrices().contiguous()
        self._forget()

    def forward(self, x: Tensor) -> Tensor:
        passed, rows = x.tensor_split([self.num_passed], dim=-1)
        by_head = rows.transpose(0, 1).flatten(0, 1)  # [num_heads * T, in]
        groups = self._kernels.even_groups(self.num_heads, len(x), x.device)
        made = self._kernels.grouped_matmul(by_head, self._matrices, None, groups)
        return torch.cat((passed, made.view(self.num_heads, len(x), -1).transpose(0, 1)), dim=-1)


def make_head_linear(part: HeadLinearPart, where: Placement, num_passed: int = 0) -> HeadLinear:
    if where.native:
        return NativeHeadLinear(part, where, num_passed)
    return (FusedHeadLinear if where.is_fused else HeadLinear)(part, where, num_passed)
