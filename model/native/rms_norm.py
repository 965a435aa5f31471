"""RMSNorm, and the addition before it, in C: the CPU's twin of `model/kernels/rms_norm.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

SMALL = 1 << 14  # numbers: less than 10 us of work


class RmsNormArgs(ctypes.Structure):
    """`struct rms_norm_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("delta", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
        ("normed", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("num_rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class RMSNormKernels:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("rms_norm")

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x [T, hidden_size], weight [hidden_size] -> [T, hidden_size]."""
        return self._call(x, None, weight, eps)[1]

    def add_rms_norm(
        self, x: Tensor, delta: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """x, delta [T, hidden_size] -> (x + delta, its norm), both [T, hidden_size]."""
        return self._call(x, delta.contiguous(), weight, eps)

    def _call(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        num_rows, size = x.shape
        stream = x if delta is None else torch.empty_like(x)
        normed = torch.empty_like(x)
        args = RmsNormArgs(
            x=address(x, torch.float32, num_rows, size),
            delta=None if delta is None else address(delta, torch.float32, num_rows, size),
            weight=address(weight, torch.float32, size),
            stream=stream.data_ptr(),
            normed=normed.data_ptr(),
            eps=eps,
            num_rows=num_rows,
            size=size,
        )
        self._run(self._operation, args, is_small=num_rows * size < SMALL)
        return stream, normed


class WideNormArgs(ctypes.Structure):
    """`struct wide_norm_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("query_gains", ctypes.c_void_p),
        ("key_gains", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("query_eps", ctypes.c_float),
        ("key_eps", ctypes.c_float),
        ("num_rows", ctypes.c_int),
        ("query_size", ctypes.c_int),
        ("key_size", ctypes.c_int),
        ("value_size", ctypes.c_int),
    )


class WideNormKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("wide_norm")

    def __call__(
        self,
        qkv: Tensor,
        query_gains: Tensor,
        key_gains: Tensor,
        query_eps: float,
        key_eps: float,
    ) -> Tensor:
        """qkv [T, channels of q, k and v], gains [of q], [of k] -> the same with queries and keys
        normed, each over all of its channels."""
        qkv = qkv.contiguous()
        num_rows, width = qkv.shape
        sizes = len(query_gains), len(key_gains)
        output = torch.empty_like(qkv)
        args = WideNormArgs(
            x=address(qkv, torch.float32, num_rows, width),
            query_gains=address(query_gains, torch.float32, sizes[0]),
            key_gains=address(key_gains, torch.float32, sizes[1]),
            output=output.data_ptr(),
            query_eps=query_eps,
            key_eps=key_eps,
            num_rows=num_rows,
            query_size=sizes[0],
            key_size=sizes[1],
            value_size=width - sum(sizes),
        )
        self._run(self._operation, args, is_small=num_rows * width < SMALL)
        return output
