"""The two products of a half of a layer, each with what lies around it in its own launch."""

from typing import Any

import torch
from torch import Tensor, nn

from thirdeye.model.config import Activation
from thirdeye.model.few_rows.around import Around, FewRowsMethod
from thirdeye.model.linear.linear import Linear
from thirdeye.model.parts.fused import FusedRMSNorm
from thirdeye.model.parts.layers import AddNorm, NoNorm
from thirdeye.model.placement import Placement

Parted = tuple[Tensor, Tensor | None]  # the stream, and what is still to be added to it


class FirstProduct:
    """Of the stream, with what is still to be added to it: by its norm, up to a gate."""

    def __init__(
        self, norm: AddNorm, layer: Linear, method: FewRowsMethod, activation: Activation | None
    ) -> None:
        self._norm = norm if isinstance(norm, FusedRMSNorm) else None
        self._layer, self._method, self._activation = layer, method, activation

    def __call__(self, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """x, added [T, hidden_size] -> [T, out], and their sum."""
        around = Around(norm=self._norm, delta=added, activation=self._activation)
        return self._method.multiply_few(self._layer, x, around)


class LastProduct:
    """Of what a half has made of the stream, and added to it."""

    def __init__(self, layer: Linear, method: FewRowsMethod) -> None:
        self._layer, self._method = layer, method

    def __call__(self, inner: Tensor, x: Tensor) -> Parted:
        """inner [T, in], x [T, hidden_size] -> [T, hidden_size], and nothing left to be added."""
        return self._method.multiply_few(self._layer, inner, Around(residual=x))[0], None


class ChangedProduct:
    """The same where something becomes of it first: the next norm adds it."""

    def __init__(self, layer: nn.Module, change: nn.Module) -> None:
        self._layer, self._change = layer, change

    def __call__(self, inner: Tensor, x: Tensor) -> Parted:
        return x, self._change(self._layer(inner))


def first_product(
    norm: AddNorm, layer: Linear, where: Placement, activation: Activation | None = None
) -> FirstProduct | None:
    """None: the norm, or the format of the weights, has to have launches of its own."""
    is_one_pass = isinstance(norm, FusedRMSNorm) and where.dtype != torch.float16
    if isinstance(layer.method, FewRowsMethod) and (is_one_pass or isinstance(norm, NoNorm)):
        return FirstProduct(norm, layer, layer.method, activation)
    return None


def last_product(layer: Linear, post_norm: nn.Module, where: Placement) -> Any:
    """Of one rank alone it is added at once: several have to add up first."""
    is_added = isinstance(post_norm, nn.Identity) and where.ranks.size == 1
    if isinstance(layer.method, FewRowsMethod) and is_added:
        return LastProduct(layer, layer.method)
    return ChangedProduct(layer, post_norm)
