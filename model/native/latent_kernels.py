"""What multi-head latent attention has beside linear layers, in C: see `latent.c`."""

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.native.library import Library, address

PANEL = 64  # outputs that lie side by side for each input
SMALL = 1 << 14  # numbers: less than 10 us of work
SMALL_PRODUCT = 1 << 17


class HeadLinearArgs(ctypes.Structure):
    """`struct head_linear_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("x_token", ctypes.c_int64),
        ("x_head", ctypes.c_int64),
        ("y_token", ctypes.c_int64),
        ("y_head", ctypes.c_int64),
        ("num_tokens", ctypes.c_int),
        ("num_heads", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
        ("num_passed", ctypes.c_int),
    )


class LatentNormArgs(ctypes.Structure):
    """`struct latent_norm_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("gains", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("y_token", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("num_tokens", ctypes.c_int),
        ("size", ctypes.c_int),
        ("num_passed", ctypes.c_int),
    )


class HeadLinearKernel:
    """y[t, h] = W_h x[t, h] for one layer's matrices."""

    def __init__(self, library: Library, matrices: Tensor) -> None:
        """matrices [num_heads, out, in], of which a copy is kept, in panels of outputs."""
        self._run, self._operation = library.run, library.operation("head_linear")
        self._num_heads, self._out, self._in = matrices.shape
        padded = F.pad(matrices.mT, (0, -self._out % PANEL))  # [num_heads, in, out]
        panels = padded.view(self._num_heads, self._in, -1, PANEL).transpose(1, 2)
        self._weights = panels.to(torch.float32).contiguous()

    def __call__(self, x: Tensor, y: Tensor, num_passed: int) -> None:
        """x [T, num_heads, passed + in], y [T, num_heads, passed + out], float32; the numbers of a
        head lie side by side. The first `num_passed` are copied."""
        num_tokens = len(x)
        assert x.shape == (num_tokens, self._num_heads, num_passed + self._in), x.shape
        assert y.shape == (num_tokens, self._num_heads, num_passed + self._out), y.shape
        assert x.dtype == y.dtype == torch.float32
        assert x.stride(2) == y.stride(2) == 1
        args = HeadLinearArgs(
            x=x.data_ptr(),
            y=y.data_ptr(),
            weights=self._weights.data_ptr(),
            x_token=x.stride(0),
            x_head=x.stride(1),
            y_token=y.stride(0),
            y_head=y.stride(1),
            num_tokens=num_tokens,
            num_heads=self._num_heads,
            in_features=self._in,
            out_features=self._out,
            num_passed=num_passed,
        )
        num_products = num_tokens * self._num_heads * self._in * self._out
        self._run(self._operation, args, is_small=num_products < SMALL_PRODUCT)


class LatentNormKernel:
    """An RMSNorm over a token's channels, but for the first, into rows that may lie apart."""

    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("latent_norm")

    def __call__(
        self, x: Tensor, gains: Tensor, eps: float, y: Tensor, num_passed: int = 0
    ) -> None:
        """x [T, passed + size], gains [size] -> y, like x, float32. The first `num_passed` are
        copied."""
        num_tokens, width = x.shape
        assert y.shape == x.shape, (x.shape, y.shape)
        assert y.dtype == torch.float32
        assert y.stride(1) == 1
        args = LatentNormArgs(
            x=address(x, torch.float32, num_tokens, width),
            gains=address(gains, torch.float32, width - num_passed),
            y=y.data_ptr(),
            y_token=y.stride(0),
            eps=eps,
            num_tokens=num_tokens,
            size=width - num_passed,
            num_passed=num_passed,
        )
        self._run(self._operation, args, is_small=x.numel() < SMALL)
