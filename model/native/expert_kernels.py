"""A layer of experts in C: choosing and grouping, rows in order, the experts' products, their sum.

`experts.c` says what is computed. Rows are grouped when the operations run, so a tape of them is
good for whatever tokens come.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.experts_spec import ExpertsSpec, Scoring
from thirdeye.model.native.library import Library, address
from thirdeye.model.native.products.float_linear import FloatLinearKernel
from thirdeye.model.native.products.int8_linear import GROUP, Int8LinearKernel
from thirdeye.model.native.products.stored_linear import BYTES_PER_GROUP, StoredLinearKernel

SMALL_MIX = 1 << 15  # numbers that one thread copies or adds in some microseconds
SMALL_ROUTE = 1 << 11
SMALL_PRODUCTS = 1 << 17
Kernel = FloatLinearKernel | Int8LinearKernel | StoredLinearKernel
KINDS = (FloatLinearKernel, Int8LinearKernel, StoredLinearKernel)  # `PRODUCTS`


class RouteArgs(ctypes.Structure):
    """`struct route_args`."""

    _fields_ = (
        ("scores", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("num_tokens", ctypes.c_int),
        ("num_experts", ctypes.c_int),
        ("num_chosen", ctypes.c_int),
        ("num_groups", ctypes.c_int),
        ("num_chosen_groups", ctypes.c_int),
        ("best_of_group", ctypes.c_int),
        ("is_sigmoid", ctypes.c_int),
        ("is_renormalized", ctypes.c_int),
        ("expert_scales", ctypes.c_void_p),
    )


class GatherRowsArgs(ctypes.Structure):
    """`struct gather_rows_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int),
        ("num_chosen", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class ExpertEntry(ctypes.Structure):
    """`struct expert`."""

    _fields_ = (("layer", ctypes.c_void_p), ("kind", ctypes.c_int))


class ExpertsLinearArgs(ctypes.Structure):
    """`struct experts_linear_args`."""

    _fields_ = (
        ("experts", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("num_experts", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
    )


class MixExpertsArgs(ctypes.Structure):
    """`struct mix_experts_args`."""

    _fields_ = (
        ("said", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("beside", ctypes.c_void_p),
        ("gates", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int),
        ("num_chosen", ctypes.c_int),
        ("size", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """Whose rows stand where once they are grouped by expert."""

    chosen: Tensor  # [T, num_chosen] int32, best first
    weights: Tensor  # [T, num_chosen] float32
    starts: Tensor  # [num_experts + 1] int32: where an expert's rows start
    tokens: Tensor  # [T * num_chosen] int32: whose each row is
    places: Tensor  # [T, num_chosen] int32: where a token's rows are


class RouteKernel:
    def __init__(self, library: Library, spec: ExpertsSpec) -> None:
        self._run, self._operation = library.run, library.operation("route")
        self._spec = spec

    def __call__(
        self, logits: Tensor, choice_bias: Tensor | None, expert_scales: Tensor | None = None
    ) -> GroupedRows:
        """logits [T, num_experts] float32, which are overwritten."""
        spec, num_tokens = self._spec, len(logits)
        shape = (num_tokens, spec.num_chosen)
        integers = [
            torch.empty(size, dtype=torch.int32)
            for size in (shape, (spec.num_experts + 1,), (num_tokens * spec.num_chosen,), shape)
        ]
        chosen, starts, tokens, places = integers
        weights = torch.empty(shape, dtype=torch.float32)
        bias = choice_bias
        args = RouteArgs(
            scores=address(logits, torch.float32, num_tokens, spec.num_experts),
            bias=None if bias is None else address(bias, torch.float32, spec.num_experts),
            chosen=chosen.data_ptr(),
            weights=weights.data_ptr(),
            starts=starts.data_ptr(),
            tokens=tokens.data_ptr(),
            places=places.data_ptr(),
            scale=spec.scale,
            num_tokens=num_tokens,
            num_experts=spec.num_experts,
            num_chosen=spec.num_chosen,
            num_groups=spec.num_groups,
            num_chosen_groups=spec.num_chosen_groups,
            best_of_group=spec.best_of_group,
            is_sigmoid=spec.scoring is Scoring.SIGMOID,
            is_renormalized=spec.is_renormalized,
        )
        if expert_scales is not None:
            args.expert_scales = address(expert_scales, torch.float32, spec.num_experts)
        self._run(self._operation, args, is_small=logits.numel() < SMALL_ROUTE)
        return GroupedRows(chosen, weights, starts, tokens, places)


class GatherRowsKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("gather_rows")

    def __call__(self, x: Tensor, routing: GroupedRows, *, is_scaled: bool = False) -> Tensor:
        """x [T, size] -> [T * num_chosen, size], grouped: a copy for each expert that a token asks,
        times its weight if that `is_scaled`."""
        num_tokens, size = x.shape
        places = routing.places
        y = x.new_empty(places.numel(), size)
        args = GatherRowsArgs(
            address(x, torch.float32, num_tokens, size),
            y.data_ptr(),
            address(places, torch.int32, num_tokens, -1),
            address(routing.weights, torch.float32, *places.shape) if is_scaled else None,
            num_tokens,
            places.shape[1],
            size,
        )
        self._run(self._operation, args, is_small=y.numel() < SMALL_MIX)
        return y


class ExpertsLinearKernel:
    """One of the layers that all experts have, each with its own weights."""

    def __init__(self, library: Library, experts: Sequence[Kernel]) -> None:
        self._run, self._operation = library.run, library.operation("experts_linear")
        self._layers = [kernel.layer() for kernel in experts]  # held, for C has their addresses
        self._kernels = experts
        self._in_features = experts[0].in_features
        self._out_features = experts[0].out_features
        self._entries = (ExpertEntry * len(experts))(
            *(
                ExpertEntry(ctypes.addressof(layer), KINDS.index(type(kernel)))
                for layer, kernel in zip(self._layers, experts, strict=True)
            )
        )

    def __call__(self, x: Tensor, starts: Tensor, most_rows: int) -> Tensor:
        """x [R, in] float32, grouped; starts [experts + 1] int32 -> [R, out] float32. `most_rows`:
        that one expert can have."""
        y = x.new_empty(len(x), self._out_features)
        groups = -(-self._in_features // GROUP)
        scratch = torch.empty(most_rows * groups * BYTES_PER_GROUP, dtype=torch.uint8)
        args = ExpertsLinearArgs(
            experts=ctypes.addressof(self._entries),
            starts=address(starts, torch.int32, len(self._kernels) + 1),
            x=address(x, torch.float32, -1, self._in_features),
            y=y.data_ptr(),
            scratch=scratch.data_ptr(),
            num_experts=len(self._kernels),
            in_features=self._in_features,
            out_features=self._out_features,
        )
        num_products = len(x) * self._in_features * self._out_features
        self._run(self._operation, args, is_small=num_products < SMALL_PRODUCTS)
        return y


class MixExpertsKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("mix_experts")

    def __call__(
        self,
        said: Tensor,
        routing: GroupedRows,
        beside: Tensor | None,
        gates: Tensor | None,
        *,
        is_weighed: bool = True,
    ) -> Tensor:
        """said [T * num_chosen, size], grouped; beside [T, size], what all tokens are told, by the
        sigmoid of gates [T, 1] -> [T, size]."""
        num_tokens, num_chosen = routing.places.shape
        size = said.shape[1]
        out = said.new_empty(num_tokens, size)
        args = MixExpertsArgs(
            said=address(said, torch.float32, num_tokens * num_chosen, size),
            places=address(routing.places, torch.int32, num_tokens, num_chosen),
            weights=address(routing.weights, torch.float32, num_tokens, num_chosen)
            if is_weighed
            else None,
            beside=None if beside is None else address(beside, torch.float32, num_tokens, size),
            gates=None if gates is None else address(gates, torch.float32, num_tokens, 1),
            out=out.data_ptr(),
            num_tokens=num_tokens,
            num_chosen=num_chosen,
            size=size,
        )
        self._run(self._operation, args, is_small=said.numel() < SMALL_MIX)
        return out
