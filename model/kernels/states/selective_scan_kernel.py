"""Mamba-2's state, token by token, with a block of a head's state in registers.

    S <- e^(dt A) S + B (dt x)^T;  y = S^T C + D x;  dt = softplus(step + shift)

    grid: spans x heads x blocks of a head's channels; the program of a sequence's first span takes
    all its spans

Columns of the state are independent of each other. Its twin is `model/state/selective_scan.py`.
Each token is a step of its own, of one shape, so its bits depend neither on how its prompt is cut
nor on its company.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.dependent_launch import begin, launch_options
from thirdeye.model.kernels.states.delta_rule_kernel import NUMBERS
from thirdeye.model.kernels.states.softplus import softplus
from thirdeye.model.state.state_cache import StateSpans
from thirdeye.model.state_spec import Mamba2Spec


@triton.jit
def selective_scan_kernel(
    output, seen, steps, shift, decay, skip, cache, spans, lengths, stride,
    NUM_HEADS: tl.constexpr, NUM_GROUPS: tl.constexpr, HEAD_SIZE: tl.constexpr,
    STATE_SIZE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    p = tl.program_id(0)
    head = tl.program_id(1)
    group = head // (NUM_HEADS // NUM_GROUPS)
    WIDTH: tl.constexpr = NUM_HEADS * HEAD_SIZE
    OF_GROUPS: tl.constexpr = NUM_GROUPS * STATE_SIZE
    ROW: tl.constexpr = NUM_HEADS * STATE_SIZE * HEAD_SIZE
    row = tl.arange(0, BLOCK_N)
    column = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    has_row, has_column = row < STATE_SIZE, column < HEAD_SIZE
    inside = has_row[:, None] & has_column[None, :]
    own = cache + (head * STATE_SIZE + row[:, None]) * HEAD_SIZE + column[None, :]
    forgets, shifted = tl.load(decay + head), tl.load(shift + head)
    passes = tl.load(skip + head)
    num_spans = tl.load(lengths + p)
    source = tl.load(spans + 4 * p + 2)
    is_kept = (num_spans > 0) & (source >= 0)
    state = tl.load(own + source.to(tl.int64) * ROW, inside & is_kept, 0.0)
    for s in range(p, p + num_spans):
        t = tl.load(spans + 4 * s).to(tl.int64)
        count = tl.load(spans + 4 * s + 1)
        target = tl.load(spans + 4 * s + 3)
        for _ in range(count):
            at = seen + t * (WIDTH + 2 * OF_GROUPS)
            x = tl.load(at + head * HEAD_SIZE + column, has_column, 0.0)
            b = tl.load(at + WIDTH + group * STATE_SIZE + row, has_row, 0.0)
            c = tl.load(at + WIDTH + OF_GROUPS + group * STATE_SIZE + row, has_row, 0.0)
            dt = softplus(tl.load(steps + t * stride + head).to(tl.float32) + shifted)
            state = state * tl.exp(dt * forgets) + b[:, None] * (x * dt)[None, :]
            read = x * passes + tl.sum(state * c[:, None], 0)
            tl.store(output + t * WIDTH + head * HEAD_SIZE + column, read, has_column)
            t += 1
        tl.store(own + target.to(tl.int64) * ROW, state, inside)


def selective_scan(
    seen: Tensor,
    steps: Tensor,
    shift: Tensor,
    decay: Tensor,
    skip: Tensor,
    spec: Mamba2Spec,
    cache: Tensor,
    plan: StateSpans,
) -> Tensor:
    """seen [T, channels] float32, which are x, B and C, steps [T, heads], of which dt is made,
    `shift`, `decay` (A) and `skip` (D) [heads] float32, cache [num_states, heads, state_size,
    head_size] float32 -> y [T, heads, head_size] float32. `spec` is this rank's."""
    heads, size, num_spans = spec.num_heads, spec.head_size, len(plan.spans)
    seen = seen.contiguous()
    assert cache.is_contiguous()
    assert steps.stride(1) == 1
    output = torch.empty(len(seen), heads, size, dtype=torch.float32, device=seen.device)
    if num_spans:
        block_n = triton.next_power_of_2(spec.state_size)
        block_d = min(triton.next_power_of_2(size), max(NUMBERS // block_n, 8))
        selective_scan_kernel[(num_spans, heads, triton.cdiv(size, block_d))](
            output, seen, steps, shift, decay, skip, cache, plan.spans, plan.lengths,
            steps.stride(0), NUM_HEADS=heads, NUM_GROUPS=spec.num_groups, HEAD_SIZE=size,
            STATE_SIZE=spec.state_size, BLOCK_N=block_n, BLOCK_D=block_d, num_warps=4,
            **launch_options(seen.device),
        )  # fmt: skip
    return output
