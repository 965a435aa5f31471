"""LayerNorm, and the addition before it, in C."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

SMALL = 1 << 14  # numbers: less than 10 us of work


class LayerNormArgs(ctypes.Structure):
    """`struct layer_norm_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("delta", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
        ("normed", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("num_rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class LayerNormKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("layer_norm")

    def __call__(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor]:
        """x, delta [T, hidden_size], weight, bias [hidden_size] -> (x + delta, its norm), both
        [T, hidden_size]; without a delta the first is x."""
        x = x.contiguous()
        num_rows, size = x.shape
        delta = None if delta is None else delta.contiguous()
        stream = x if delta is None else torch.empty_like(x)
        normed = torch.empty_like(x)
        args = LayerNormArgs(
            x=address(x, torch.float32, num_rows, size),
            delta=None if delta is None else address(delta, torch.float32, num_rows, size),
            weight=address(weight, torch.float32, size),
            bias=None if bias is None else address(bias, torch.float32, size),
            stream=stream.data_ptr(),
            normed=normed.data_ptr(),
            eps=eps,
            num_rows=num_rows,
            size=size,
        )
        self._run(self._operation, args, is_small=num_rows * size < SMALL)
        return stream, normed
