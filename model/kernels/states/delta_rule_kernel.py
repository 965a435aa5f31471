"""The gated delta rule, token by token, with a block of a head's state in registers.

    S <- e^g S;  S <- S + k (beta (v - S^T k))^T;  o = S^T q
    g = decay softplus(a + shift), beta = sigmoid(b); q and k of length 1, q / sqrt(its size)

    grid: spans x value heads x blocks of a value's channels; the program of a sequence's first span
    takes all its spans

Columns of the state are independent of each other. Its twin is `model/state/delta_rule.py`. Each
token is a step of its own, of one shape, so its bits depend neither on how its prompt is cut nor on
its company.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.kernels.states.softplus import softplus
from thirdeye.model.state.delta_rule import EPS
from thirdeye.model.state.state_cache import StateSpans
from thirdeye.model.state_spec import DeltaNetSpec

NUMBERS = 4096  # of a state, in the registers of a program's 128 threads


@triton.jit
def delta_rule_kernel(
    output, qkv, gates, decay, shift, cache, spans, lengths, eps, query_scale,
    NUM_KEY_HEADS: tl.constexpr, NUM_VALUE_HEADS: tl.constexpr,
    KEY_SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr, IS_TILED: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    p = tl.program_id(0)
    head = tl.program_id(1)
    key_head = head % NUM_KEY_HEADS if IS_TILED else head // (NUM_VALUE_HEADS // NUM_KEY_HEADS)
    KEYS: tl.constexpr = NUM_KEY_HEADS * KEY_SIZE
    ROW: tl.constexpr = NUM_VALUE_HEADS * KEY_SIZE * VALUE_SIZE
    row = tl.arange(0, BLOCK_K)
    column = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    has_row, has_column = row < KEY_SIZE, column < VALUE_SIZE
    inside = has_row[:, None] & has_column[None, :]
    own = cache + (head * KEY_SIZE + row[:, None]) * VALUE_SIZE + column[None, :]
    forgets = tl.load(decay + head)
    shifted = tl.load(shift + head)
    num_spans = tl.load(lengths + p)
    source = tl.load(spans + 4 * p + 2)
    is_kept = (num_spans > 0) & (source >= 0)
    state = tl.load(own + source.to(tl.int64) * ROW, inside & is_kept, 0.0)
    for s in range(p, p + num_spans):
        t = tl.load(spans + 4 * s).to(tl.int64)
        count = tl.load(spans + 4 * s + 1)
        target = tl.load(spans + 4 * s + 3)
        for _ in range(count):
            at = qkv + t * (2 * KEYS + NUM_VALUE_HEADS * VALUE_SIZE)
            query = tl.load(at + key_head * KEY_SIZE + row, has_row, 0.0)
            key = tl.load(at + KEYS + key_head * KEY_SIZE + row, has_row, 0.0)
            value = tl.load(at + 2 * KEYS + head * VALUE_SIZE + column, has_column, 0.0)
            query = query / tl.sqrt(tl.sum(query * query, 0) + eps) * query_scale
            key = key / tl.sqrt(tl.sum(key * key, 0) + eps)
            gate = gates + t * 2 * NUM_VALUE_HEADS + head
            a = tl.load(gate + NUM_VALUE_HEADS).to(tl.float32)
            beta = 1.0 / (1.0 + tl.exp(-tl.load(gate).to(tl.float32)))
            state = state * tl.exp(forgets * softplus(a + shifted))
            says = tl.sum(state * key[:, None], 0)
            state = state + key[:, None] * ((value - says) * beta)[None, :]
            said = tl.sum(state * query[:, None], 0)
            place = (t * NUM_VALUE_HEADS + head) * VALUE_SIZE + column
            tl.store(output + place, said, has_column)
            t += 1
        tl.store(own + target.to(tl.int64) * ROW, state, inside)


def delta_rule(
    qkv: Tensor,
    gates: Tensor,
    decay: Tensor,
    shift: Tensor,
    spec: DeltaNetSpec,
    cache: Tensor,
    plan: StateSpans,
) -> Tensor:
    """qkv [T, channels] float32, gates [T, 2 * value heads], which are b and a, `decay` and `shift`
    [value heads] float32, cache [num_states, value heads, key_size, value_size] float32 ->
    o [T, value heads, value_size] float32. `spec` is this rank's."""
    heads, size, num_spans = spec.num_value_heads, spec.value_size, len(plan.spans)
    qkv, gates = qkv.contiguous(), gates.contiguous()
    assert cache.is_contiguous()
    output = torch.empty(len(qkv), heads, size, dtype=torch.float32, device=qkv.device)
    if num_spans:
        block_k = triton.next_power_of_2(spec.key_size)
        block_v = min(triton.next_power_of_2(size), max(NUMBERS // block_k, 8))
        delta_rule_kernel[(num_spans, heads, triton.cdiv(size, block_v))](
            output, qkv, gates, decay, shift, cache, plan.spans, plan.lengths, EPS,
            spec.key_size**-0.5, NUM_KEY_HEADS=spec.num_key_heads, NUM_VALUE_HEADS=heads,
            KEY_SIZE=spec.key_size, VALUE_SIZE=size, IS_TILED=spec.is_tiled, BLOCK_K=block_k,
            BLOCK_V=block_v, num_warps=4, **launch_options(qkv.device),
        )  # fmt: skip
    return output
