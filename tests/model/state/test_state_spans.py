"""Layers that keep a state: a span is its tokens after a state, whoever else is in the step."""

import itertools

import pytest
import torch
from torch import Tensor

from tests.model.state.state_cases import (
    CUT,
    DELTA_NETS,
    NUM_STATES,
    NUM_TOKENS,
    WHOLE,
    random,
)
from tests.model.steps import Row, make_batch
from thirdeye.model.native.library import Library
from thirdeye.model.native.states.conv_kernel import CausalConvKernel
from thirdeye.model.native.states.delta_kernel import DeltaRuleKernel, SigmoidMulKernel
from thirdeye.model.parts.activations import multiply_by_sigmoid
from thirdeye.model.state.causal_conv import causal_conv
from thirdeye.model.state.delta_rule import delta_rule
from thirdeye.model.state.state_cache import ZEROS, spans_in_order
from thirdeye.model.state_spec import DeltaNetSpec


def conv_in_full(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch's own convolution, of one sequence: x [T, channels] -> [T, channels]."""
    num_past = weight.shape[1] - 1
    padded = torch.nn.functional.pad(x.t(), (num_past, 0))
    y = torch.nn.functional.conv1d(padded[None], weight[:, None], bias, groups=len(weight))
    return y[0].t()


@pytest.mark.parametrize(("kernel", "channels"), [(2, 16), (3, 40), (4, 70), (8, 5)])
def test_convolution(kernel: int, channels: int) -> None:
    x, weight, bias = random(NUM_TOKENS, channels), random(channels, kernel), random(channels)
    for own in (None, bias):
        caches = [torch.full((NUM_STATES, kernel - 1, channels), torch.nan) for _ in range(2)]
        whole = causal_conv(x, weight, own, caches[0], WHOLE)
        torch.testing.assert_close(whole, conv_in_full(x, weight, own), atol=1e-5, rtol=1e-5)
        assert torch.equal(causal_conv(x, weight, own, caches[1], CUT), whole)
        assert torch.equal(caches[0][0], caches[1][0])
        assert torch.equal(caches[0][0], x[NUM_TOKENS - kernel + 1 :])


@pytest.mark.parametrize(
    ("kernel", "channels", "has_bias"),
    [(2, 16, True), (3, 40, False), (4, 200, True), (8, 5, True)],
)
def test_convolution_in_c(kernel: int, channels: int, has_bias: bool, native: Library) -> None:
    """Near the textbook; and bit for bit the same however a prompt is cut, on any threads."""
    weight, bias = random(channels, kernel), random(channels) if has_bias else None
    thirds = random(NUM_TOKENS, 3 * channels, seed=1)
    before, after, x = thirds.chunk(3, dim=-1)
    seen: list[Tensor] = []
    for plan, threads in itertools.product((WHOLE, CUT), (1, 2)):
        torch.set_num_threads(threads)
        ours, theirs = (torch.full((NUM_STATES, kernel - 1, channels), torch.nan) for _ in range(2))
        run = CausalConvKernel(native)
        gated = run.gated(thirds, weight, bias, ours, plan)
        wanted = after * causal_conv(before * x, weight, bias, theirs, plan)
        torch.testing.assert_close(gated, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours[0], theirs[0])
        smooth = CausalConvKernel(native).with_silu(thirds, weight, bias, ours, plan)
        wanted = torch.nn.functional.silu(
            causal_conv(thirds[:, :channels], weight, bias, theirs, plan)
        )
        torch.testing.assert_close(smooth, wanted, atol=1e-5, rtol=1e-5)
        seen += [gated, smooth]
    torch.set_num_threads(1)
    for gated, smooth in pairs(seen):
        assert torch.equal(gated, seen[0])
        assert torch.equal(smooth, seen[1])


def pairs(tensors: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def by_definition(qkv: Tensor, decay: Tensor, beta: Tensor, spec: DeltaNetSpec) -> Tensor:
    """Head by head in 64 bits: the state is forgotten, asked and corrected as a matrix."""
    keys = spec.num_key_heads * spec.key_size
    query, key, value = qkv.double().split([keys, keys, qkv.shape[1] - 2 * keys], dim=-1)
    heads = []
    for head, key_head in enumerate(spec.key_heads()):
        own = slice(key_head * spec.key_size, (key_head + 1) * spec.key_size)
        values = value[:, head * spec.value_size : (head + 1) * spec.value_size]
        state = torch.zeros(spec.key_size, spec.value_size, dtype=torch.float64)
        said = []
        for t, v in enumerate(values):
            q, k = (x[t, own] / (x[t, own].square().sum() + 1e-6).sqrt() for x in (query, key))
            state = state * decay[t, head].double()
            state = state + torch.outer(k, (v - k @ state) * beta[t, head].double())
            said.append(q @ state / spec.key_size**0.5)
        heads.append(torch.stack(said))
    return torch.stack(heads, dim=1).float()


@pytest.mark.parametrize("name", DELTA_NETS)
def test_delta_rule(name: str) -> None:
    spec = DELTA_NETS[name]
    qkv, heads = random(NUM_TOKENS, spec.channels), spec.num_value_heads
    decay, beta = (random(NUM_TOKENS, heads, seed=seed).sigmoid() for seed in (1, 2))
    caches = [torch.full((NUM_STATES, *spec.arrays["delta"]), torch.nan) for _ in range(2)]
    whole = delta_rule(qkv, decay, beta, spec, caches[0], WHOLE)
    wanted = by_definition(qkv, decay, beta, spec)
    torch.testing.assert_close(whole, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(delta_rule(qkv, decay, beta, spec, caches[1], CUT), whole)
    assert torch.equal(caches[0][0], caches[1][0])


@pytest.mark.parametrize("name", DELTA_NETS)
def test_delta_rule_in_c(name: str, native: Library) -> None:
    """Near the textbook, norm and gate included; and bit for bit the same however it is cut."""
    spec, eps = DELTA_NETS[name], 1e-6
    heads, width = spec.num_value_heads, spec.num_value_heads * spec.value_size
    qkv, mixed = random(NUM_TOKENS, spec.channels), random(NUM_TOKENS, spec.channels + width)
    gates = random(NUM_TOKENS, 2 * heads, seed=3) * 8  # softplus bent, and straight
    log_decay, shift, gain = -random(heads).exp(), random(heads), random(spec.value_size)
    seen: list[Tensor] = []
    for plan, threads in itertools.product((WHOLE, CUT), (1, 2)):
        torch.set_num_threads(threads)
        ours, theirs = (
            torch.full((NUM_STATES, *spec.arrays["delta"]), torch.nan) for _ in range(2)
        )
        kernel = DeltaRuleKernel(native, spec, eps)
        got = kernel(qkv, mixed, gates, log_decay, shift, gain, ours, plan)
        b, a = gates.chunk(2, dim=-1)
        decay = (log_decay * torch.nn.functional.softplus(a + shift)).exp()
        said = delta_rule(qkv, decay, b.sigmoid(), spec, theirs, plan)
        normed = said * torch.rsqrt(said.square().mean(-1, keepdim=True) + eps) * gain
        wanted = normed.flatten(1) * torch.nn.functional.silu(mixed[:, spec.channels :])
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
        seen += [got, ours[0]]
    torch.set_num_threads(1)
    for got, state in pairs(seen):
        assert torch.equal(got, seen[0])
        assert torch.equal(state, seen[1])


def test_gates_in_c(native: Library) -> None:
    x, gate = random(7, 45), random(7, 45, seed=1) * 20
    torch.testing.assert_close(SigmoidMulKernel(native)(x, gate), multiply_by_sigmoid(x, gate))


def test_a_batch_without_spans() -> None:
    """Its sequences are the same in each step, in their order."""
    batch = make_batch([Row([1, 2, 3], 0, [0]), Row([4], 9, [1]), Row([5, 6], 2, [2])], 16)
    assert spans_in_order(batch).tolist() == [[0, 3, ZEROS, 0], [3, 1, 1, 1], [4, 2, 2, 2]]
