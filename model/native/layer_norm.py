"""LayerNorm, and the addition before it, in C; and one for each head of queries and keys."""

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


class HeadNormArgs(ctypes.Structure):
    """`struct head_norm_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("query_gains", ctypes.c_void_p),
        ("key_gains", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("num_rows", ctypes.c_int),
        ("num_heads", ctypes.c_int),
        ("num_kv_heads", ctypes.c_int),
        ("head_dim", ctypes.c_int),
    )


class HeadNormKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("head_norm")

    def __call__(self, qkv: Tensor, query_gains: Tensor, key_gains: Tensor, eps: float) -> Tensor:
        """qkv [T, channels of q, k and v], gains [num_heads, head_dim], [num_kv_heads, head_dim] ->
        the same with queries and keys normed, each head by itself."""
        qkv = qkv.contiguous()
        num_rows, width = qkv.shape
        (num_heads, head_dim), num_kv_heads = query_gains.shape, len(key_gains)
        assert width == (num_heads + 2 * num_kv_heads) * head_dim, qkv.shape
        output = torch.empty_like(qkv)
        args = HeadNormArgs(
            x=address(qkv, torch.float32, num_rows, width),
            query_gains=address(query_gains, torch.float32, num_heads, head_dim),
            key_gains=address(key_gains, torch.float32, num_kv_heads, head_dim),
            output=output.data_ptr(),
            eps=eps,
            num_rows=num_rows,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
        )
        self._run(self._operation, args, is_small=num_rows * width < SMALL)
        return output
