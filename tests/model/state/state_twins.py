"""Triton's kernels of layers that keep a state against the textbooks: on a GPU, or in the
interpreter."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.model.state.state_cases import CUT, NUM_STATES, NUM_TOKENS, SEVERAL, WHOLE, random
from thirdeye.model.kernels.states import causal_conv_kernel as conv_kernel
from thirdeye.model.kernels.states import delta_rule_kernel as delta_kernel
from thirdeye.model.kernels.states import selective_scan_kernel as scan_kernel
from thirdeye.model.state.causal_conv import causal_conv
from thirdeye.model.state.delta_rule import delta_rule, softplus
from thirdeye.model.state.selective_scan import selective_scan
from thirdeye.model.state.state_cache import StateSpans, lengths_of
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec

Run = Callable[[Tensor, StateSpans], Tensor]


def held(
    ours: Run, textbook: Run, shape: tuple[int, ...], device: torch.device, near: float
) -> None:
    """In each plan, states included; of one prompt bit for bit, however it is cut."""
    whole: list[Tensor] = []
    for plan in (WHOLE, CUT, SEVERAL):
        spans = plan.spans.to(device)
        states = random(NUM_STATES, *shape, seed=9).to(device)
        mine, theirs = states.clone(), states.clone()
        got = ours(mine, StateSpans(spans, lengths_of(spans)))
        torch.testing.assert_close(got, textbook(theirs, plan), atol=near, rtol=near)
        torch.testing.assert_close(mine, theirs, atol=near, rtol=near)
        if plan is not SEVERAL:
            whole += [got, mine[0]]
    assert torch.equal(whole[0], whole[2])
    assert torch.equal(whole[1], whole[3])


def check_convolution(kernel: int, channels: int, device: torch.device) -> None:
    x = random(NUM_TOKENS, channels + 7).to(device)
    weight = random(channels, kernel).to(device)
    for bias in (None, random(channels).to(device)):

        def ours(cache: Tensor, plan: StateSpans, bias: Tensor | None = bias) -> Tensor:
            return conv_kernel.conv_with_silu(x, weight, bias, cache, plan)

        def textbook(cache: Tensor, plan: StateSpans, bias: Tensor | None = bias) -> Tensor:
            summed = causal_conv(x[:, :channels], weight, bias, cache, plan)
            return torch.nn.functional.silu(summed)

        held(ours, textbook, (kernel - 1, channels), device, 1e-5)


def check_gated_convolution(dtype: torch.dtype, device: torch.device) -> None:
    weight = random(40, 3).to(device, dtype)
    thirds = random(NUM_TOKENS, 120, seed=1).to(device, dtype)
    before, after, x = thirds.chunk(3, dim=-1)

    def ours(cache: Tensor, plan: StateSpans) -> Tensor:
        return conv_kernel.gated_conv(thirds, weight, None, cache, plan)

    def textbook(cache: Tensor, plan: StateSpans) -> Tensor:
        return after * causal_conv(before * x, weight, None, cache, plan).to(dtype)

    held(ours, textbook, (2, 40), device, max(1e-5, torch.finfo(dtype).eps))


def check_delta_rule(spec: DeltaNetSpec, device: torch.device) -> None:
    heads = spec.num_value_heads
    qkv = random(NUM_TOKENS, spec.channels).to(device)
    gates = (random(NUM_TOKENS, 2 * heads, seed=3) * 8).to(device)  # softplus bent, and straight
    decay, shift = -random(heads).exp().to(device), random(heads, seed=1).to(device)
    b, a = gates.chunk(2, dim=-1)
    kept = (decay * softplus(a + shift)).exp()

    def ours(cache: Tensor, plan: StateSpans) -> Tensor:
        return delta_kernel.delta_rule(qkv, gates, decay, shift, spec, cache, plan)

    def textbook(cache: Tensor, plan: StateSpans) -> Tensor:
        return delta_rule(qkv, kept, b.sigmoid(), spec, cache, plan)

    held(ours, textbook, spec.arrays["delta"], device, 1e-5)


def check_scan(spec: Mamba2Spec, device: torch.device) -> None:
    heads = spec.num_heads
    decay, shift, skip = (random(heads, seed=seed).to(device) for seed in (4, 5, 6))
    decay = -decay.exp()
    seen = random(NUM_TOKENS, spec.channels).to(device)
    steps = random(NUM_TOKENS, heads + 3, seed=1).to(device)[:, 3:] * 8
    dt = softplus(steps + shift)

    def ours(cache: Tensor, plan: StateSpans) -> Tensor:
        return scan_kernel.selective_scan(seen, steps, shift, decay, skip, spec, cache, plan)

    def textbook(cache: Tensor, plan: StateSpans) -> Tensor:
        return selective_scan(seen, dt, decay, skip, spec, cache, plan)

    held(ours, textbook, spec.arrays["ssm"], device, 3e-5)
