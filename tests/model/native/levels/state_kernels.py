"""Kernels of layers that keep a state, over numbers of every kind."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from thirdeye.model.native.library import Library
from thirdeye.model.native.states.conv_kernel import CausalConvKernel
from thirdeye.model.native.states.delta_kernel import DeltaRuleKernel, SigmoidMulKernel
from thirdeye.model.native.states.mamba_kernel import SelectiveScanKernel
from thirdeye.model.state.state_cache import StateSpans
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Of very different size, with zeros of both signs and numbers that are not normal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x *= (3 * torch.randn(shape, generator=generator)).exp()
    x.view(-1)[::97], x.view(-1)[1::101], x.view(-1)[2::103] = 0.0, -0.0, 1e-40
    return x


def states(native: Library, rows: int) -> Iterator[Tensor]:
    """Of `rows` tokens of one sequence, in two spans."""
    ends = (0, rows // 2, -1, 3), (rows // 2, rows - rows // 2, 3, 1)
    plan = StateSpans(torch.tensor(ends, dtype=torch.int32))
    spec = DeltaNetSpec(2, 4, 20, 70, 4, is_tiled=True)
    conv, delta = (torch.zeros(4, *spec.arrays[name]) for name in ("conv", "delta"))
    width = 4 * 70
    mixed, gates = numbers(rows, spec.channels + width), numbers(rows, 8)
    taps, per_head = numbers(spec.channels, 4), [numbers(4), numbers(4), numbers(70)]
    seen = CausalConvKernel(native).with_silu(mixed, taps, None, conv, plan)
    rule = DeltaRuleKernel(native, spec, 1e-6)
    yield from (seen, rule(seen, mixed, gates, -per_head[0].abs(), *per_head[1:], delta, plan))
    yield from (conv[1], delta[1])
    short = torch.zeros(4, 2, 45)
    yield CausalConvKernel(native).gated(
        numbers(rows, 135), numbers(45, 3), numbers(45, seed=1), short, plan
    )
    yield SigmoidMulKernel(native)(numbers(rows, 45), numbers(rows, 45, seed=2))
    yield from scans(native, rows, plan)


def scans(native: Library, rows: int, plan: StateSpans) -> Iterator[Tensor]:
    spec = Mamba2Spec(4, 2, head_size=70, state_size=20, kernel=4)
    heads = [numbers(4, seed=1), -numbers(4).abs(), numbers(4, seed=2)]
    seen = numbers(rows, spec.channels)
    projected = numbers(rows, spec.channels + spec.width + 4)
    for own in (spec, replace(spec, gates_first=False), replace(spec, has_norm=False)):
        scan, ssm = SelectiveScanKernel(native, own, 1e-6), torch.zeros(4, *spec.arrays["ssm"])
        gain = numbers(spec.width) if own.has_norm else None
        yield scan(seen, projected, *heads, gain, ssm, plan)
        yield ssm[1]
