"""The parts of layers that keep a state."""

from collections.abc import Mapping
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.model.declare.parameter import Dealt, Fill, Parameter, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part, WideNormPart
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec, ShortConvSpec, StateSpec


@dataclass(frozen=True, slots=True)
class ConvPart(Part):
    """So many taps for each channel. Channels are dealt out, of each of `rows` some."""

    rows: tuple[Rows, ...]
    kernel: int
    has_bias: bool

    def own(self) -> Mapping[str, Parameter]:
        weight = Parameter(self.rows, (self.kernel,), Dealt.ROWS)
        if not self.has_bias:
            return {"weight": weight}
        return {"weight": weight, "bias": Parameter(self.rows, (), Dealt.ROWS, Fill.ZEROS)}


@dataclass(frozen=True, slots=True)
class ShortConvPart(Part):
    """Channels are dealt out: a rank has its own from the projection to the output."""

    spec: ShortConvSpec
    project: LinearPart
    conv: ConvPart
    output: LinearPart


@dataclass(frozen=True, slots=True)
class HeadsPart(Part):
    """Some numbers of each head: see `model/parts/states/delta_net.py` and `mamba2.py`."""

    num_heads: int
    names: tuple[str, ...] = ("decay", "shift")

    def own(self) -> Mapping[str, Parameter]:
        rows = (Rows(self.num_heads, Role.STATE),)
        return {name: Parameter(rows, (), Dealt.ROWS) for name in self.names}


@dataclass(frozen=True, slots=True)
class DeltaNetPart(Part):
    """Heads are dealt out: a rank has its own from the projection to the output."""

    spec: DeltaNetSpec
    project: LinearPart
    gates: LinearPart
    conv: ConvPart
    heads: HeadsPart
    norm: NormPart
    output: LinearPart


@dataclass(frozen=True, slots=True)
class Mamba2Part(Part):
    """Groups of heads are dealt out: a rank has its own from the projection to the output."""

    spec: Mamba2Spec
    project: LinearPart
    conv: ConvPart
    heads: HeadsPart
    norm: WideNormPart | None
    output: LinearPart


StatePart = ShortConvPart | DeltaNetPart | Mamba2Part


def state_part(config: ModelConfig, spec: StateSpec) -> StatePart:
    if isinstance(spec, DeltaNetSpec):
        return delta_net_part(config, spec)
    if isinstance(spec, Mamba2Spec):
        return mamba2_part(config, spec)
    return short_conv_part(config, spec)


def delta_net_part(config: ModelConfig, spec: DeltaNetSpec) -> DeltaNetPart:
    hidden, heads = config.hidden_size, spec.num_value_heads
    keys, values = spec.num_key_heads * spec.key_size, heads * spec.value_size
    qkv = tuple(
        Rows(size, Role.STATE, name) for name, size in (("q", keys), ("k", keys), ("v", values))
    )
    gates = tuple(Rows(heads, Role.STATE, name) for name in ("b", "a"))
    return DeltaNetPart(
        spec,
        LinearPart(hidden, (*qkv, Rows(values, Role.STATE, "z")), False, Dealt.ROWS),
        LinearPart(hidden, gates, False, Dealt.ROWS),
        ConvPart(qkv, spec.kernel, False),
        HeadsPart(heads),
        NormPart(Norm.RMS_NORM, spec.value_size, config.norm_eps),
        LinearPart(values, (Rows(hidden, Role.STATE),), False, Dealt.COLUMNS),
    )


def mamba2_part(config: ModelConfig, spec: Mamba2Spec) -> Mamba2Part:
    hidden, width, shared = config.hidden_size, spec.width, spec.num_groups * spec.state_size
    seen = tuple(
        Rows(size, Role.STATE, name) for name, size in (("x", width), ("B", shared), ("C", shared))
    )
    beside = Rows(width, Role.STATE, "z"), Rows(spec.num_heads, Role.STATE, "dt")
    return Mamba2Part(
        spec,
        LinearPart(hidden, (*seen, *beside), spec.input_bias, Dealt.ROWS),
        ConvPart(seen, spec.kernel, spec.conv_bias),
        HeadsPart(spec.num_heads, ("decay", "shift", "skip")),
        WideNormPart(width, config.norm_eps) if spec.has_norm else None,
        LinearPart(width, (Rows(hidden, Role.STATE),), spec.output_bias, Dealt.COLUMNS),
    )


def short_conv_part(config: ModelConfig, spec: ShortConvSpec) -> ShortConvPart:
    hidden, width, bias = config.hidden_size, spec.channels, spec.bias
    thirds = tuple(Rows(width, Role.STATE, name) for name in ("before", "after", "input"))
    return ShortConvPart(
        spec,
        LinearPart(hidden, thirds, bias, Dealt.ROWS),
        ConvPart((Rows(width, Role.STATE),), spec.kernel, bias),
        LinearPart(width, (Rows(hidden, Role.STATE),), bias, Dealt.COLUMNS),
    )
