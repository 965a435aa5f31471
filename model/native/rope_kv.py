"""Norm and turn heads, write keys and values, in C: the twin of `model/kernels/rope_kv.py`."""

import ctypes
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thirdeye.model.declare.head_layout import HeadLayout
from thirdeye.model.native.library import Library, address
from thirdeye.model.state.kv_int8 import Int8Vectors, parts_of

if TYPE_CHECKING:
    from thirdeye.model.parts.head_norms import QKNorm

SMALL = 1 << 14  # numbers: less than 10 us of work


class RopeKvArgs(ctypes.Structure):
    """`struct rope_kv_args`."""

    _fields_ = (
        ("qkv", ctypes.c_void_p),
        ("cos", ctypes.c_void_p),
        ("sin", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("query_gains", ctypes.c_void_p),
        ("key_gains", ctypes.c_void_p),
        ("query_scale", ctypes.c_void_p),
        ("query", ctypes.c_void_p),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
        ("query_eps", ctypes.c_float),
        ("key_eps", ctypes.c_float),
        ("num_tokens", ctypes.c_int),
        ("num_heads", ctypes.c_int),
        ("num_kv_heads", ctypes.c_int),
        ("head_dim", ctypes.c_int),
        ("half", ctypes.c_int),
        ("number_bytes", ctypes.c_int),
        ("norm_is_last", ctypes.c_int),
        ("values_are_keys", ctypes.c_int),
        ("norms_values", ctypes.c_int),
        ("value_eps", ctypes.c_float),
    )


class RopeKVKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("rope_kv")

    def rope_and_write(
        self,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        slot_mapping: Tensor,
        key_cache: Tensor | Int8Vectors,
        value_cache: Tensor | Int8Vectors,
        norms: "QKNorm | None" = None,
        query_scale: Tensor | None = None,
        layout: HeadLayout | None = None,
    ) -> Tensor:
        """qkv [T, all heads * head_dim], cos and sin [T, 1, dim / 2], slots [T],
        query_scale [T, 1, 1] -> query [T, num_heads, head_dim]; keys and values go to their slots
        of the caches [num_blocks, block_size, num_kv_heads, head_dim], fp32, fp16 or int8.
        `layout`: None for as many keys as values; without any, the caches stay as they are. Values
        that are a part of the keys are written with them."""
        qkv = qkv.contiguous()
        num_kv_heads, head_dim = key_cache.shape[2:]
        num_tokens, num_all = qkv.shape[0], qkv.shape[1] // head_dim
        layout = layout or HeadLayout(num_all - 2 * num_kv_heads, num_kv_heads)
        num_heads, half = layout.num_heads, cos.shape[-1]
        key_norm = norms and norms.key_norm
        keys, key_scales = parts_of(key_cache)
        values, value_scales = parts_of(value_cache)
        assert keys.dtype in (torch.float32, torch.float16, torch.int8), keys.dtype
        query = qkv.new_empty(num_tokens, num_heads, head_dim)
        args = RopeKvArgs(
            qkv=address(qkv, torch.float32, num_tokens, num_all * head_dim),
            cos=address(cos, torch.float32, num_tokens, 1, half),
            sin=address(sin, torch.float32, num_tokens, 1, half),
            slots=address(slot_mapping, torch.int64, num_tokens),
            query_gains=norms and address(norms.query_norm.weight, torch.float32, head_dim),
            key_gains=key_norm and address(key_norm.weight, torch.float32, head_dim),
            query_scale=None
            if query_scale is None
            else address(query_scale, torch.float32, num_tokens, 1, 1),
            query=query.data_ptr(),
            keys=address(keys, keys.dtype, -1, -1, num_kv_heads, head_dim),
            values=address(values, keys.dtype, *keys.shape) if layout.keeps_values else None,
            query_eps=norms.query_norm.eps if norms else 0.0,
            key_eps=key_norm.eps if key_norm else 0.0,
            num_tokens=num_tokens,
            num_heads=num_heads,
            num_kv_heads=layout.num_kv_heads,
            head_dim=head_dim,
            half=half,
            number_bytes=keys.itemsize,
            norm_is_last=norms is not None and norms.is_last,
            values_are_keys=not layout.has_values,
            norms_values=layout.value_eps is not None,
            value_eps=layout.value_eps or 0.0,
        )
        if key_scales is not None and value_scales is not None:
            args.key_scales = address(key_scales, torch.float32, *keys.shape[:3])
            args.value_scales = address(value_scales, torch.float32, *keys.shape[:3])
        self._run(self._operation, args, is_small=qkv.numel() < SMALL)
        return query
