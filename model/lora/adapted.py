"""A linear layer that adapters may change: its own product, and what they add to some rows of it.

    y = x W^T + b,  then  y[t] += B (A x[t])  for each token t that has an adapter with such factors

However the base's weights are kept, A and B are numbers of the model's dtype, and never merged:
many adapters share a step. A token's row does not depend on the others, where the base's do not.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from thirdeye.model.linear.choose_method import choose_linear
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.method import LinearLayer, LinearMethod
from thirdeye.model.lora.step_slots import StepSlots
from thirdeye.model.native.products.lora_kernel import LoraKernel
from thirdeye.model.placement import Placement

Piece = tuple[slice, Tensor, Tensor]  # outputs, A [rank, in], B [outputs, rank]


class Addends(Protocol):
    """What a layer's adapters add, slot by slot."""

    def packed(self, pieces: Sequence[Piece]) -> Any:
        """An adapter for `put`: by any thread."""

    def put(self, slot: int, packed: Any) -> None: ...

    def remove(self, slot: int) -> None: ...

    def add(self, y: Tensor, x: Tensor, step: StepSlots) -> None:
        """To y [T, out], in place, from x [T, in]."""


class NativeAddends(LoraKernel):
    """In C: see `lora.c`."""

    def add(self, y: Tensor, x: Tensor, step: StepSlots) -> None:  # type: ignore[override]
        assert step.slots is not None
        super().add(y, x, step.slots)


class FusedAddends:
    """In triton, imported here: a machine without it has everything but this."""

    def __init__(self, in_features: int, out_features: int, num_slots: int) -> None:
        from thirdeye.model.kernels.products.lora_matmul import TritonLora  # noqa: PLC0415

        self._kernel = TritonLora(in_features, out_features, num_slots)
        self.packed, self.put = self._kernel.packed, self._kernel.put
        self.remove = self._kernel.remove

    def add(self, y: Tensor, x: Tensor, step: StepSlots) -> None:
        assert step.slots is not None
        self._kernel.add(y, x, step.slots)


class GroupedAddends:
    """By two linear layers for each piece, over the rows of each adapter's tokens together. They
    are multiplied as the base's layers without quantization are: row by row on a CPU."""

    def __init__(self, where: Placement) -> None:
        self._where = replace(where, quantize="none")
        self._pieces: dict[int, list[tuple[slice, Linear, Linear]]] = {}

    def packed(self, pieces: Sequence[Piece]) -> list[tuple[slice, Linear, Linear]]:
        return [(rows, self._linear(a), self._linear(b)) for rows, a, b in pieces]

    def put(self, slot: int, packed: list[tuple[slice, Linear, Linear]]) -> None:
        self._pieces[slot] = packed

    def remove(self, slot: int) -> None:
        self._pieces.pop(slot, None)

    def add(self, y: Tensor, x: Tensor, step: StepSlots) -> None:
        for slot, rows in step.groups:
            own = x.index_select(0, rows)
            for outputs, a, b in self._pieces.get(slot, ()):
                y[rows, outputs] += b(a(own))

    @torch.inference_mode()
    def _linear(self, weight: Tensor) -> Linear:
        out_features, in_features = weight.shape
        method = choose_linear(self._where)
        layer = Linear(in_features, out_features, False, self._where, method=method)
        layer.weight.copy_(weight)
        layer.finish()
        return layer


class Adapted:
    """A layer's method, and what the adapters of a step's tokens add to its product."""

    def __init__(self, method: LinearMethod, addends: Addends, step: StepSlots) -> None:
        self.base, self.addends, self._step = method, addends, step

    def create(self, layer: LinearLayer, *sizes: Any) -> None:
        self.base.create(layer, *sizes)

    def finish(self, layer: LinearLayer) -> None:
        self.base.finish(layer)

    def apply(self, layer: LinearLayer, x: Tensor) -> Tensor:
        y = self.base.apply(layer, x)
        if self._step.slots is not None:
            self._step.fit(x)
            self.addends.add(y, x, self._step)
        return y


def make_addends(where: Placement, in_features: int, out_features: int, num_slots: int) -> Addends:
    if where.native:
        return NativeAddends(where.native, in_features, out_features, num_slots)
    if where.is_fused:
        return FusedAddends(in_features, out_features, num_slots)
    return GroupedAddends(where)
