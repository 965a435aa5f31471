"""Mamba-2's state: the recurrence, token by token, in torch and in C, however a prompt is cut."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.model.state.state_cases import (
    CUT,
    MAMBAS,
    NUM_STATES,
    NUM_TOKENS,
    WHOLE,
    numbers_of,
    random,
)
from thirdeye.model.native.library import Library
from thirdeye.model.native.states.mamba_kernel import SelectiveScanKernel
from thirdeye.model.state.selective_scan import selective_scan
from thirdeye.model.state_spec import Mamba2Spec

EPS = 1e-5
by_spec = pytest.mark.parametrize("name", MAMBAS)


def by_definition(seen: Tensor, steps: Tensor, spec: Mamba2Spec) -> Tensor:
    """Head by head in 64 bits, without a state: what each earlier token has left for this one."""
    decay, _, skip = (x.double() for x in numbers_of(spec))
    width, shared = spec.width, spec.num_groups * spec.state_size
    x, b, c = seen.double().split([width, shared, shared], dim=-1)
    heads = []
    for head in range(spec.num_heads):
        group = head // (spec.num_heads // spec.num_groups)
        own, of_group = (
            slice(i * size, (i + 1) * size)
            for i, size in ((head, spec.head_size), (group, spec.state_size))
        )
        dt = steps[:, head].double()
        since = (dt * decay[head]).cumsum(0)
        forgotten = (since[:, None] - since[None, :]).exp().tril()  # [later, earlier]
        weights = (c[:, of_group] @ b[:, of_group].t()) * forgotten * dt[None, :]
        heads.append(weights @ x[:, own] + skip[head] * x[:, own])
    return torch.stack(heads, dim=1).float()


@by_spec
def test_selective_scan(name: str) -> None:
    spec = MAMBAS[name]
    seen = random(NUM_TOKENS, spec.channels)
    steps = torch.nn.functional.softplus(random(NUM_TOKENS, spec.num_heads, seed=1))
    decay, _, skip = numbers_of(spec)
    caches = [torch.full((NUM_STATES, *spec.arrays["ssm"]), torch.nan) for _ in range(2)]
    whole = selective_scan(seen, steps, decay, skip, spec, caches[0], WHOLE)
    torch.testing.assert_close(whole, by_definition(seen, steps, spec), atol=1e-5, rtol=1e-5)
    assert torch.equal(selective_scan(seen, steps, decay, skip, spec, caches[1], CUT), whole)
    assert torch.equal(caches[0][0], caches[1][0])


def gated(read: Tensor, z: Tensor, gain: Tensor, spec: Mamba2Spec) -> Tensor:
    """What stands behind the scan, from its definition."""
    gate = torch.nn.functional.silu(z)
    if not spec.has_norm:
        return read * gate
    before = read * gate if spec.gates_first else read
    groups = before.view(len(read), spec.num_groups, -1)
    scale = torch.rsqrt(groups.square().mean(-1, keepdim=True) + EPS)
    normed = (groups * scale).flatten(1) * gain
    return normed if spec.gates_first else normed * gate


@by_spec
def test_selective_scan_in_c(name: str, native: Library) -> None:
    """Near the textbook, norm and gate included; and bit for bit the same however it is cut."""
    spec = MAMBAS[name]
    heads, channels, width = spec.num_heads, spec.channels, spec.width
    seen = random(NUM_TOKENS, channels, seed=8)  # of whose heads none cancels out
    projected = random(NUM_TOKENS, channels + width + heads)
    projected[:, channels + width :] *= 8  # softplus bent, and straight
    decay, shift, skip = numbers_of(spec)
    gain = random(width, seed=7)
    results: list[tuple[Tensor, Tensor]] = []
    for plan, threads in itertools.product((WHOLE, CUT), (1, 2)):
        torch.set_num_threads(threads)
        ours, theirs = (torch.full((NUM_STATES, *spec.arrays["ssm"]), torch.nan) for _ in range(2))
        kernel = SelectiveScanKernel(native, spec, EPS)
        given = gain if spec.has_norm else None
        got = kernel(seen, projected, shift, decay, skip, given, ours, plan)
        z, dt = projected[:, channels:].split([width, heads], dim=-1)
        steps = torch.nn.functional.softplus(dt + shift)
        read = selective_scan(seen, steps, decay, skip, spec, theirs, plan)
        wanted = gated(read.flatten(1), z, gain, spec)
        torch.testing.assert_close(got, wanted, atol=3e-5, rtol=3e-5)
        torch.testing.assert_close(ours[0], theirs[0], atol=2e-5, rtol=2e-5)
        results.append((got, ours[0]))
    torch.set_num_threads(1)
    for got, state in results:
        assert torch.equal(got, results[0][0])
        assert torch.equal(state, results[0][1])


def test_a_token_alone_is_one_in_a_batch(native: Library) -> None:
    """Sequences side by side, one token each, are what each is by itself."""
    spec = MAMBAS["groups"]
    width = spec.channels + spec.width + spec.num_heads
    seen, projected = random(5, spec.channels), random(5, width, seed=1)
    decay, shift, skip = numbers_of(spec)
    before = random(NUM_STATES, *spec.arrays["ssm"], seed=2)
    kernel, gain = SelectiveScanKernel(native, spec, EPS), random(spec.width, seed=3)

    def step(rows: list[int]) -> tuple[Tensor, Tensor]:
        spans = [(at, 1, row, row) for at, row in enumerate(rows)]
        plan = replace(WHOLE, spans=torch.tensor(spans, dtype=torch.int32))
        cache = before.clone()
        return kernel(seen[rows], projected[rows], shift, decay, skip, gain, cache, plan), cache[
            rows
        ]

    together, states = step([3, 0, 4, 1])
    for at, row in enumerate([3, 0, 4, 1]):
        alone, state = step([row])
        assert torch.equal(alone[0], together[at])
        assert torch.equal(state[0], states[at])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_groups": 4}, "'num_heads' \\(6\\) must be a multiple of 'num_groups' \\(4\\)"),
        ({"state_size": 513}, "'state_size' must be between 1 and 512, got 513"),
        ({"kernel": 1}, "'kernel' must be between 2 and 8"),
    ],
)
def test_what_a_state_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MAMBAS["groups"], **changes)
