"""The 8-bit linear layer in C: its weights in panels, its arguments, its call.

`int8_linear.c` says what is computed and `int8_linear.h` how it lies in memory.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.loading import large_pages
from thirdeye.model.native.library import Library, address

GROUP = 32  # channels of a token that share a scale
PANEL_ROWS = 48
BYTES_PER_GROUP = GROUP + 4 + 4  # codes, their scale, where their sums start
SMALL = 1 << 18  # products that take one thread a microsecond or two
MAX_IN_FEATURES = 1 << 20  # far from where a size in C would not fit


class PackArgs(ctypes.Structure):
    """`struct int8_pack_args`."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
    )


class LinearArgs(ctypes.Structure):
    """`struct int8_linear_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("packed", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("code_scales", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class PackedWeight:
    packed: Tensor  # [panels, groups * GROUP * PANEL_ROWS] uint8
    scales: Tensor  # [out] float32
    in_features: int


def pack(library: Library, weight: Tensor) -> PackedWeight:
    """weight [out, in] float32 -> its whole numbers, rounded row by row, and their scales."""
    out_features, in_features = weight.shape
    assert in_features <= MAX_IN_FEATURES, in_features
    panels, groups = -(-out_features // PANEL_ROWS), -(-in_features // GROUP)
    packed = large_pages.empty(panels, groups * GROUP * PANEL_ROWS, dtype=torch.uint8)
    scales = torch.empty(out_features)
    args = PackArgs(
        address(weight, torch.float32, out_features, in_features),
        packed.data_ptr(),
        scales.data_ptr(),
        in_features,
        out_features,
    )
    library.run(library.operation("int8_pack"), args)
    return PackedWeight(packed, scales, in_features)


class Int8LinearKernel:
    """y = x W^T + b for one layer's weights."""

    def __init__(self, library: Library, weight: PackedWeight, bias: Tensor | None) -> None:
        assert weight.packed.data_ptr() % 64 == 0  # torch's allocator sees to that
        self._run, self._operation = library.run, library.operation("int8_linear")
        self.weight, self.bias = weight, bias  # held here, for C only has their addresses
        self.in_features, self.out_features = weight.in_features, len(weight.scales)
        self._size = self.in_features * self.out_features
        self._groups = -(-self.in_features // GROUP)
        self._layer = LinearArgs(
            packed=weight.packed.data_ptr(),
            scales=weight.scales.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            in_features=self.in_features,
            out_features=self.out_features,
        )

    def layer(self) -> LinearArgs:
        """The arguments, less those of a step."""
        return LinearArgs.from_buffer_copy(self._layer)

    def __call__(self, x: Tensor) -> Tensor:
        """x [T, in] float32 -> [T, out] float32."""
        num_tokens, places = len(x), len(x) * self._groups
        y = x.new_empty(num_tokens, self.out_features)
        if not num_tokens:
            return y
        scratch = torch.empty(places * BYTES_PER_GROUP, dtype=torch.uint8)
        args = self.layer()
        args.x, args.y = address(x, torch.float32, -1, self.in_features), y.data_ptr()
        args.codes = scratch.data_ptr()
        args.code_scales = args.codes + places * GROUP
        args.starts = args.code_scales + places * 4
        args.num_tokens = num_tokens
        self._run(self._operation, args, is_small=num_tokens * self._size < SMALL)
        return y
