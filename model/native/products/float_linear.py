"""The fp32 linear layer in C: its weights in panels, its arguments, its call.

`float_linear.c` says what is computed, in which order, and how it lies in memory.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.loading import large_pages
from thirdeye.model.native.library import Library, address

PANEL_ROWS = 48
SMALL = 1 << 17  # products that take one thread some microseconds


class FloatLinearArgs(ctypes.Structure):
    """`struct float_linear_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
    )


class FloatPackArgs(ctypes.Structure):
    """`struct float_pack_args`."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("out_features", ctypes.c_int),
        ("in_features", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class FloatPanels:
    packed: Tensor  # [panels, in, PANEL_ROWS] float32, zeros behind the last row
    out_features: int


def pack_floats(library: Library, weight: Tensor) -> FloatPanels:
    """weight [out, in] float32, in panels of rows."""
    out_features, in_features = weight.shape
    packed = large_pages.empty(-(-out_features // PANEL_ROWS), in_features, PANEL_ROWS)
    args = FloatPackArgs(
        address(weight, torch.float32, out_features, in_features),
        packed.data_ptr(),
        out_features,
        in_features,
    )
    library.run(library.operation("float_pack"), args)
    return FloatPanels(packed, out_features)


class FloatLinearKernel:
    """y = x W^T + b for one layer's weights."""

    def __init__(self, library: Library, weight: FloatPanels, bias: Tensor | None) -> None:
        assert weight.packed.data_ptr() % 64 == 0  # torch's allocator sees to that
        self._run, self._operation = library.run, library.operation("float_linear")
        self.weight, self.bias = weight, bias  # held here, for C only has their addresses
        self.in_features, self.out_features = weight.packed.shape[1], weight.out_features

    def layer(self) -> FloatLinearArgs:
        """The arguments, less those of a step."""
        return FloatLinearArgs(
            packed=self.weight.packed.data_ptr(),
            bias=None if self.bias is None else self.bias.data_ptr(),
            in_features=self.in_features,
            out_features=self.out_features,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """x [T, in] float32 -> [T, out] float32."""
        num_tokens = len(x)
        y = x.new_empty(num_tokens, self.out_features)
        args = self.layer()
        args.x = address(x, torch.float32, num_tokens, self.in_features)
        args.y, args.num_tokens = y.data_ptr(), num_tokens
        num_products = num_tokens * self.in_features * self.out_features
        self._run(self._operation, args, is_small=num_products < SMALL)
        return y
