"""What lies between the qkv projection and attention, in one pass: norm and turn queries and keys,
put keys and values into their cache slots.

    grid: T tokens x (query heads + key heads + value heads), one program a head

A query's program writes its row of the queries, a key's and a value's write into the paged cache:
nothing is read twice, and keys are never stored outside of the cache. Twins: `QKNorm`,
`Rotation` in `model/rope.py` and `KVCache.write`. A rotated channel is
rounded once here and after each product there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.self_attention import QKNorm


@triton.jit
def rope_kv_kernel(
    query, key_cache, value_cache, qkv, cos, sin, slot_mapping, query_norm, key_norm, eps,
    stride_slot, NUM_HEADS: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr, HAS_NORM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    channels = tl.arange(0, BLOCK_D)
    inside = channels < HEAD_DIM
    base = qkv + (token * (NUM_HEADS + 2 * NUM_KV_HEADS) + head) * HEAD_DIM
    slot = tl.load(slot_mapping + token)
    if head >= NUM_HEADS + NUM_KV_HEADS:
        kv_head = head - NUM_HEADS - NUM_KV_HEADS
        target = value_cache + slot * stride_slot + kv_head * HEAD_DIM + channels
        value = tl.load(base + channels, inside, 0.0).to(tl.float32)
        tl.store(target, value.to(value_cache.dtype.element_ty), inside)
    else:
        dtype = query.dtype.element_ty
        # a channel's partner is the other hand of its pair; channels past the pairs have none
        partner = tl.where(channels < HALF, channels + HALF, channels - HALF)
        turns = channels < 2 * HALF
        x = tl.load(base + channels, inside, 0.0).to(tl.float32)
        other = tl.load(base + partner, turns, 0.0).to(tl.float32)
        if HAS_NORM:
            scale = 1.0 / tl.sqrt(tl.sum(x * x, 0) / HEAD_DIM + eps)
            gains = query_norm if head < NUM_HEADS else key_norm
            gain = tl.load(gains + channels, inside, 0.0).to(tl.float32)
            other_gain = tl.load(gains + partner, turns, 0.0).to(tl.float32)
            x = ((x * scale).to(dtype).to(tl.float32) * gain).to(dtype).to(tl.float32)
            other = (other * scale).to(dtype).to(tl.float32) * other_gain
            other = other.to(dtype).to(tl.float32)
        pair = tl.where(channels < HALF, channels, channels - HALF)
        c = tl.load(cos + token * HALF + pair, turns, 1.0).to(tl.float32)
        s = tl.load(sin + token * HALF + pair, turns, 0.0).to(tl.float32)
        turned = x * c + tl.where(channels < HALF, -other, other) * s
        if head < NUM_HEADS:
            target = query + (token * NUM_HEADS + head) * HEAD_DIM + channels
            tl.store(target, turned.to(dtype), inside)
        else:
            target = key_cache + slot * stride_slot + (head - NUM_HEADS) * HEAD_DIM + channels
            tl.store(target, turned.to(key_cache.dtype.element_ty), inside)


def rope_and_write(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    slot_mapping: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    norms: QKNorm | None = None,
) -> Tensor:
    """qkv [T, (num_heads + 2 num_kv_heads) * head_dim], cos and sin [T, 1, dim / 2], slots [T] ->
    query [T, num_heads, head_dim]; keys and values go to their slots of the caches
    [num_blocks, block_size, num_kv_heads, head_dim]."""
    num_kv_heads, head_dim = key_cache.shape[2:]
    qkv = qkv.contiguous()
    num_tokens, num_all = qkv.shape[0], qkv.shape[1] // head_dim
    num_heads = num_all - 2 * num_kv_heads
    query = torch.empty(num_tokens, num_heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    assert key_cache.is_contiguous()
    assert value_cache.is_contiguous()
    if num_tokens:
        rope_kv_kernel[(num_tokens, num_all)](
            query, key_cache, value_cache, qkv, cos, sin, slot_mapping,
            norms.query_norm.weight if norms else qkv, norms.key_norm.weight if norms else qkv,
            norms.query_norm.eps if norms else 0.0, key_cache.stride(1),
            NUM_HEADS=num_heads, NUM_KV_HEADS=num_kv_heads, HEAD_DIM=head_dim,
            HALF=cos.shape[-1], HAS_NORM=norms is not None,
            BLOCK_D=triton.next_power_of_2(head_dim), num_warps=1,
        )  # fmt: skip
    return query
