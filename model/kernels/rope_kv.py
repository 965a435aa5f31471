"""What lies between the qkv projection and attention, in one pass: norm and turn queries and keys,
put keys and values into their cache slots.

    grid: T tokens x (query heads + key heads + value heads), one program a head

A query's program writes its row of the queries, a key's and a value's write into the paged cache:
nothing is read twice, and keys are never stored outside of the cache. Twins: `QKNorm`,
`Rotation` in `model/parts/rope.py` and `KVCache.write`. A rotated channel is
rounded once here and after each product there. A cache in 8 bits gets each head's vector with its
scale; the twin of that is `round_vectors` in `model/state/kv_fp8.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.declare.head_layout import HeadLayout
from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.parts.head_norms import QKNorm
from thirdeye.model.state.kv_fp8 import ScaledCache, parts

LARGEST = tl.constexpr(448.0)  # these three as in `model/state/kv_fp8.py`
FRACTION = tl.constexpr((1 << 23) - 1)
BROKEN = tl.constexpr(255)


@triton.jit
def write_vector(
    cache, exponents, slot, kv_head, vector, channels, stride_slot,
    NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HAS_SCALES: tl.constexpr,
):  # fmt: skip
    """A key or value [1, D] into its slot: as it is, or in 8 bits with a scale of its own."""
    if HAS_SCALES:
        least = tl.div_rn(tl.max(tl.abs(vector), 1), tl.full([1], LARGEST, tl.float32))  # [1]
        bits = least.to(tl.int32, bitcast=True)  # of an exact division, as the twin's is
        exponent = tl.minimum(tl.maximum((bits + FRACTION) >> 23, 1), BROKEN)
        is_broken = tl.max((vector != vector).to(tl.int32), 1) > 0  # a maximum need not be NaN
        exponent = tl.where(is_broken, BROKEN, exponent)
        one = tl.arange(0, 1)
        tl.store(exponents + slot * NUM_KV_HEADS + kv_head + one, exponent.to(tl.uint8))
        inverse = tl.maximum(254 - exponent, 0) << 23
        vector = vector * inverse.to(tl.float32, bitcast=True)[:, None]
    target = cache + slot * stride_slot + kv_head * HEAD_DIM + channels[None, :]
    tl.store(target, vector.to(cache.dtype.element_ty), (channels < HEAD_DIM)[None, :])


@triton.jit
def scale_of(x, eps, HEAD_DIM: tl.constexpr):
    """What makes each row of x [M, D] one of unit size, [M, 1]."""
    return (1.0 / tl.sqrt(tl.sum(x * x, 1) / HEAD_DIM + eps))[:, None]


@triton.jit
def turn_heads(
    heads, is_head, gains, cos, sin, eps, channels,
    HEAD_DIM: tl.constexpr, HALF: tl.constexpr, HAS_NORM: tl.constexpr, NORM_IS_LAST: tl.constexpr,
):  # fmt: skip
    """A token's queries or keys, from where each begins [M], normed and turned by its cos and sin
    [HALF]: [M, D] float32."""
    dtype = heads.dtype.element_ty
    # a channel's partner is the other hand of its pair; channels past the pairs have none
    partner = tl.where(channels < HALF, channels + HALF, channels - HALF)
    turns, inside = channels < 2 * HALF, channels < HEAD_DIM
    x = tl.load(heads[:, None] + channels[None, :], is_head[:, None] & inside[None, :], 0.0)
    other = tl.load(heads[:, None] + partner[None, :], is_head[:, None] & turns[None, :], 0.0)
    x, other = x.to(tl.float32), other.to(tl.float32)
    if HAS_NORM:
        gain = tl.load(gains + channels, inside, 0.0).to(tl.float32)[None, :]
    if HAS_NORM and not NORM_IS_LAST:
        scale = scale_of(x, eps, HEAD_DIM)
        other_gain = tl.load(gains + partner, turns, 0.0).to(tl.float32)[None, :]
        x = ((x * scale).to(dtype).to(tl.float32) * gain).to(dtype).to(tl.float32)
        other = (other * scale).to(dtype).to(tl.float32) * other_gain
        other = other.to(dtype).to(tl.float32)
    pair = tl.where(channels < HALF, channels, channels - HALF)
    c = tl.load(cos + pair, turns, 1.0).to(tl.float32)[None, :]
    s = tl.load(sin + pair, turns, 0.0).to(tl.float32)[None, :]
    turned = x * c + tl.where((channels < HALF)[None, :], -other, other) * s
    if NORM_IS_LAST:
        turned = turned.to(dtype).to(tl.float32)
        turned = (turned * scale_of(turned, eps, HEAD_DIM)).to(dtype).to(tl.float32) * gain
    return turned


@triton.jit
def kept_value(
    value, channels, eps, HEAD_DIM: tl.constexpr, NORMS_VALUES: tl.constexpr
):  # fmt: skip
    """A value [1, D] as it is kept, float32, from where it begins."""
    x = tl.load(value + channels, channels < HEAD_DIM, 0.0).to(tl.float32)[None, :]
    if NORMS_VALUES:
        x = (x * scale_of(x, eps, HEAD_DIM)).to(value.dtype.element_ty).to(tl.float32)
    return x


# Where sin begins behind cos depends on the number of tokens.
@triton.jit(do_not_specialize_on_alignment=["cos", "sin"])
def rope_kv_kernel(
    query, key_cache, value_cache, key_exponents, value_exponents, qkv, cos, sin, slot_mapping,
    query_norm, key_norm, query_scale, eps, value_eps, stride_slot,
    NUM_HEADS: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr, HAS_NORM: tl.constexpr, NORM_IS_LAST: tl.constexpr,
    BLOCK_D: tl.constexpr, HAS_SCALES: tl.constexpr, SCALES_QUERY: tl.constexpr,
    HAS_VALUES: tl.constexpr, NORMS_VALUES: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    channels, one = tl.arange(0, BLOCK_D), tl.arange(0, 1)
    source = head
    if HAS_VALUES:
        num_all = NUM_HEADS + 2 * NUM_KV_HEADS
    else:  # the keys are, as they are projected
        num_all = NUM_HEADS + NUM_KV_HEADS
        if head >= num_all:
            source = head - NUM_KV_HEADS
    base = qkv + (token * num_all + source) * HEAD_DIM
    slot = tl.load(slot_mapping + token)
    if head >= NUM_HEADS + NUM_KV_HEADS:
        value = kept_value(base, channels, value_eps, HEAD_DIM, NORMS_VALUES)
        write_vector(
            value_cache, value_exponents, slot, head - NUM_HEADS - NUM_KV_HEADS, value, channels,
            stride_slot, NUM_KV_HEADS, HEAD_DIM, HAS_SCALES,
        )  # fmt: skip
    else:
        dtype = query.dtype.element_ty
        gains = query_norm if head < NUM_HEADS else key_norm
        turned = turn_heads(
            base + one, one == 0, gains, cos + token * HALF, sin + token * HALF, eps, channels,
            HEAD_DIM, HALF, HAS_NORM, NORM_IS_LAST,
        )  # fmt: skip
        if head < NUM_HEADS:
            if SCALES_QUERY:
                factor = tl.load(query_scale + token).to(tl.float32)
                turned = turned.to(dtype).to(tl.float32) * factor
            target = query + (token * NUM_HEADS + head) * HEAD_DIM + channels[None, :]
            tl.store(target, turned.to(dtype), (channels < HEAD_DIM)[None, :])
        else:
            key = turned.to(dtype).to(tl.float32)
            write_vector(
                key_cache, key_exponents, slot, head - NUM_HEADS, key, channels,
                stride_slot, NUM_KV_HEADS, HEAD_DIM, HAS_SCALES,
            )  # fmt: skip


def rope_and_write(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    slot_mapping: Tensor,
    key_cache: Tensor | ScaledCache,
    value_cache: Tensor | ScaledCache,
    norms: QKNorm | None = None,
    query_scale: Tensor | None = None,
    layout: HeadLayout | None = None,
) -> Tensor:
    """qkv [T, all heads * head_dim], cos and sin [T, 1, dim / 2], slots [T],
    query_scale [T, 1, 1] ->
    query [T, num_heads, head_dim]; keys and values go to their slots of the caches
    [num_blocks, block_size, num_kv_heads, head_dim]. `layout`: None for as many keys as values;
    without any, the caches stay as they are. Values that are a part of the keys are written with
    them."""
    num_kv_heads, head_dim = key_cache.shape[2:]
    qkv = qkv.contiguous()
    num_tokens, num_all = qkv.shape[0], qkv.shape[1] // head_dim
    layout = layout or HeadLayout(num_all - 2 * num_kv_heads, num_kv_heads)
    num_heads, num_kept = layout.num_heads, layout.num_kv_heads
    key_norm = norms and (norms.key_norm or norms.query_norm)  # either, where there are no keys
    query = torch.empty(num_tokens, num_heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    (keys, key_exponents), (values, value_exponents) = parts(key_cache), parts(value_cache)
    assert keys.is_contiguous()
    assert values.is_contiguous() or not layout.keeps_values
    if num_tokens:
        num_written = 2 * num_kept if layout.keeps_values else num_kept
        rope_kv_kernel[(num_tokens, num_heads + num_written)](
            query, keys, values, key_exponents, value_exponents, qkv, cos, sin, slot_mapping,
            norms.query_norm.weight if norms else qkv, key_norm.weight if key_norm else qkv,
            qkv if query_scale is None else query_scale.contiguous(),
            norms.query_norm.eps if norms else 0.0, layout.value_eps or 0.0, keys.stride(1),
            NUM_HEADS=num_heads, NUM_KV_HEADS=num_kept, HEAD_DIM=head_dim,
            HALF=cos.shape[-1], HAS_NORM=norms is not None,
            NORM_IS_LAST=norms is not None and norms.is_last, SCALES_QUERY=query_scale is not None,
            BLOCK_D=triton.next_power_of_2(head_dim), HAS_SCALES=key_exponents is not None,
            HAS_VALUES=layout.has_values, NORMS_VALUES=layout.value_eps is not None, num_warps=1,
            **launch_options(qkv.device),
        )  # fmt: skip
    return query
