"""The parts of an MLP: plain, with a gate, or many small ones of which each token takes a few."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.model.declare.parameter import Dealt, Fill, Parameter, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part
from thirdeye.model.experts_spec import ExpertsSpec


@dataclass(frozen=True, slots=True)
class XIELUPart(Part):
    """The numbers of one layer's activation, see `model/parts/activations.py`."""

    def own(self) -> Mapping[str, Parameter]:
        names = ("alpha_p", "alpha_n", "beta", "eps")
        return {"weight": Parameter(tuple(Rows(1, Role.MLP, name) for name in names))}


@dataclass(frozen=True, slots=True)
class MLPPart(Part):
    activation: Activation
    act: XIELUPart | None
    up: LinearPart
    down: LinearPart


@dataclass(frozen=True, slots=True)
class GatedMLPPart(Part):
    activation: Activation
    gate_up: LinearPart
    down: LinearPart


@dataclass(frozen=True, slots=True)
class RouterPart(Part):
    spec: ExpertsSpec
    linear: LinearPart

    def own(self) -> Mapping[str, Parameter]:
        rows, found = (Rows(self.spec.num_experts, Role.ROUTER),), {}
        if self.spec.choice_bias:
            found["choice_bias"] = Parameter(rows, fill=Fill.ZEROS)
        if self.spec.expert_scales:
            found["expert_scales"] = Parameter(rows, fill=Fill.ONES)
        return found


@dataclass(frozen=True, slots=True)
class ExpertsPart(Part):
    """Each expert is dealt out as an MLP is, by its inner channels: ranks choose alike, and their
    shares are added up once, the shared expert's with them. The router is everybody's."""

    router: RouterPart
    experts: tuple[GatedMLPPart, ...] | tuple[MLPPart, ...]
    shared: GatedMLPPart | MLPPart | None
    shared_gate: LinearPart | None


@dataclass(frozen=True, slots=True)
class MixedMLPPart(Part):
    """An MLP and experts side by side: each reads the stream by a norm of its own, the router by
    another, and what each says is normed before both are added."""

    norm: NormPart
    mlp: MLPPart | GatedMLPPart
    post_norm: NormPart
    router_norm: NormPart
    experts_norm: NormPart
    experts: ExpertsPart
    experts_post_norm: NormPart


def gated_mlp_part(
    config: ModelConfig, wide: int, bias: bool, *, is_summed: bool = True
) -> GatedMLPPart:
    """`is_summed`: over the ranks, here."""
    hidden = config.hidden_size
    halves = (Rows(wide, Role.MLP, "gate"), Rows(wide, Role.MLP, "up"))
    return GatedMLPPart(
        config.activation,
        LinearPart(hidden, halves, bias, Dealt.ROWS),
        LinearPart(wide, (Rows(hidden, Role.MLP),), bias, Dealt.COLUMNS, is_summed),
    )


def plain_mlp_part(
    config: ModelConfig, wide: int, bias: bool, *, is_summed: bool = True
) -> MLPPart:
    """`is_summed`: over the ranks, here."""
    hidden = config.hidden_size
    return MLPPart(
        config.activation,
        XIELUPart() if config.activation is Activation.XIELU else None,
        LinearPart(hidden, (Rows(wide, Role.MLP),), bias, Dealt.ROWS),
        LinearPart(wide, (Rows(hidden, Role.MLP),), bias, Dealt.COLUMNS, is_summed),
    )


def experts_part(config: ModelConfig, spec: ExpertsSpec) -> ExpertsPart:
    hidden, part = config.hidden_size, gated_mlp_part if config.gated_mlp else plain_mlp_part
    scores = (Rows(spec.num_experts, Role.ROUTER),)
    one: Any = part(config, spec.intermediate_size, spec.bias, is_summed=False)
    shared = part(config, spec.shared_size, config.mlp_bias, is_summed=False)
    gate = LinearPart(hidden, (Rows(1, Role.ROUTER),), False, Dealt.WHOLE)
    return ExpertsPart(
        RouterPart(spec, LinearPart(hidden, scores, spec.router_bias, Dealt.WHOLE)),
        (one,) * spec.num_experts,
        shared if spec.shared_size else None,
        gate if spec.shared_gate else None,
    )
