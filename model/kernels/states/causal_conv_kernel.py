"""A causal convolution over a ragged step, each channel by itself, whose last inputs are kept.

    y[t] = sum_k w[k] x[t - K + 1 + k] + b, k = 0 ... K - 1

    grid: spans x blocks of channels; the program of a sequence's first span takes all its spans

Around it may be two gates (after * conv(before * x), LFM2), or SiLU behind it. Its twin is
`model/state/causal_conv.py`. Taps are added in order, so a token's bits depend on nothing but its
own K inputs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.state.state_cache import StateSpans

TOKENS, CHANNELS = 16, 64  # of a tile


@triton.jit
def inputs(x, cache, source, token, first, channel, inside, stride,
           K: tl.constexpr, SIZE: tl.constexpr, GATED: tl.constexpr):  # fmt: skip
    """What the taps see at `token`, before `first` that the source row keeps: tile of float32."""
    is_here = token >= first
    at = x + token.to(tl.int64) * stride + channel
    if GATED:
        seen = tl.load(at + 2 * SIZE, inside & is_here, 0.0).to(tl.float32)
        before = tl.load(at, inside & is_here, 0.0).to(tl.float32)
        seen = (before * seen).to(x.dtype.element_ty).to(tl.float32)
    else:
        seen = tl.load(at, inside & is_here, 0.0).to(tl.float32)
    kept = cache + source.to(tl.int64) * (K - 1) * SIZE + (token - first + K - 1) * SIZE + channel
    past = tl.load(kept, inside & (token < first) & (source >= 0), 0.0)
    return tl.where(is_here, seen, past)


@triton.jit
def causal_conv_kernel(
    output, x, weight, bias, cache, spans, lengths, stride,
    K: tl.constexpr, SIZE: tl.constexpr, GATED: tl.constexpr, HAS_BIAS: tl.constexpr,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, KEPT: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    p = tl.program_id(0)
    channel = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    has_channel = channel < SIZE
    for s in range(p, p + tl.load(lengths + p)):
        first, count = tl.load(spans + 4 * s), tl.load(spans + 4 * s + 1)
        source, target = tl.load(spans + 4 * s + 2), tl.load(spans + 4 * s + 3)
        end = first + count
        for start in range(first, end, TOKENS):
            token = (start + tl.arange(0, TOKENS))[:, None]
            inside = (token < end) & has_channel
            total = tl.zeros([TOKENS, CHANNELS], tl.float32)
            for k in tl.static_range(K):
                seen = inputs(x, cache, source, token - (K - 1) + k, first, channel, inside,
                              stride, K, SIZE, GATED)  # fmt: skip
                total += seen * tl.load(weight + channel * K + k, has_channel, 0.0).to(tl.float32)
            if HAS_BIAS:
                total += tl.load(bias + channel, has_channel, 0.0).to(tl.float32)
            if GATED:
                after = x + token.to(tl.int64) * stride + SIZE + channel
                total = total.to(x.dtype.element_ty).to(tl.float32)
                total *= tl.load(after, inside, 0.0).to(tl.float32)
            else:
                total = total / (1.0 + tl.exp(-total))
            place = output + token.to(tl.int64) * SIZE + channel
            tl.store(place, total.to(output.dtype.element_ty), inside)
        row = tl.arange(0, KEPT)[:, None]
        is_kept = (row < K - 1) & has_channel
        last = inputs(x, cache, source, end - (K - 1) + row, first, channel, is_kept,
                      stride, K, SIZE, GATED)  # fmt: skip
        tl.debug_barrier()  # all have read, and the source may be the target
        kept = cache + target.to(tl.int64) * (K - 1) * SIZE + row * SIZE + channel
        tl.store(kept, last, is_kept)
        tl.debug_barrier()  # all have written what the next span reads


def conv_with_silu(
    x: Tensor, weight: Tensor, bias: Tensor | None, cache: Tensor, plan: StateSpans
) -> Tensor:
    """x [T, channels and perhaps more], weight [channels, K], cache [num_states, K - 1, channels]
    float32, oldest first -> silu(conv(x)), [T, channels] float32."""
    output = torch.empty(len(x), cache.shape[-1], dtype=torch.float32, device=x.device)
    return _convolve(x, weight, bias, cache, plan, output, is_gated=False)


def gated_conv(
    thirds: Tensor, weight: Tensor, bias: Tensor | None, cache: Tensor, plan: StateSpans
) -> Tensor:
    """thirds [T, 3 * channels], which are `before`, `after` and x -> after * conv(before * x),
    [T, channels], each product rounded to the dtype."""
    output = torch.empty(len(thirds), cache.shape[-1], dtype=thirds.dtype, device=thirds.device)
    return _convolve(thirds, weight, bias, cache, plan, output, is_gated=True)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cache: Tensor,
    plan: StateSpans,
    output: Tensor,
    *,
    is_gated: bool,
) -> Tensor:
    x, num_spans = x.contiguous(), len(plan.spans)
    _, num_past, size = cache.shape
    assert cache.is_contiguous()
    if num_spans:
        causal_conv_kernel[(num_spans, triton.cdiv(size, CHANNELS))](
            output, x, weight, weight if bias is None else bias, cache, plan.spans, plan.lengths,
            x.stride(0), K=num_past + 1, SIZE=size, GATED=is_gated, HAS_BIAS=bias is not None,
            TOKENS=TOKENS, CHANNELS=CHANNELS, KEPT=triton.next_power_of_2(num_past),
            num_warps=4, **launch_options(x.device),
        )  # fmt: skip
    return output
