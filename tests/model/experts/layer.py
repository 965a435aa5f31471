"""One layer of experts with random weights, in any of the forms that it can be kept in."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tests.model.tiny import CPU, LLAMA, change
from tests.oracles.experts import Gate
from thirdeye.model.config import Activation
from thirdeye.model.declare.block import mlp_part
from thirdeye.model.declare.mlp import ExpertsPart
from thirdeye.model.experts_spec import ExpertsSpec, Scoring
from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.library import Library
from thirdeye.model.parts.choose_parts import make_mlp
from thirdeye.model.parts.experts import Experts
from thirdeye.model.placement import Placement

HIDDEN, INNER = 64, 96
PLAIN = ExpertsSpec(num_experts=8, num_chosen=3, intermediate_size=INNER)
SPECS = {
    "softmax": PLAIN,
    "renormalized": replace(PLAIN, is_renormalized=True, scale=2.5),
    "sigmoid": replace(PLAIN, scoring=Scoring.SIGMOID, choice_bias=True, is_renormalized=True),
    "groups": replace(
        PLAIN, scoring=Scoring.SIGMOID, choice_bias=True, num_groups=4, num_chosen_groups=2
    ),
    "best group": replace(PLAIN, num_groups=2, num_chosen_groups=1, best_of_group=1),
    "scaled": replace(PLAIN, is_renormalized=True, expert_scales=True),
    "scaled inputs": replace(PLAIN, scoring=Scoring.SIGMOID, scales_input=True),
    "one": replace(PLAIN, num_chosen=1),
    "all": replace(PLAIN, num_chosen=8),
}


def layer_of(
    spec: ExpertsSpec,
    native: Library | None = None,
    quantize: str = "none",
    is_gated: bool = True,
    **where: Any,
) -> Experts:
    config = change(LLAMA, hidden_size=HIDDEN, experts=spec)
    if not is_gated:
        config = change(config, gated_mlp=False, activation=Activation.RELU2)
    placement = Placement(torch.float32, CPU, quantize, native=native, **where)
    part = mlp_part(config)
    assert isinstance(part, ExpertsPart)
    layer = make_mlp(part, placement)
    assert isinstance(layer, Experts)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return layer


def weights_of(layer: Any) -> list[Gate]:
    """Before it is finished."""
    found = []
    for expert in layer.experts:
        gate, up = expert.gate_up.weight.detach().clone().chunk(2)
        found.append((gate, up, expert.down.weight.detach().clone()))
    return found


def finish(layer: Experts) -> Experts:
    for module in layer.modules():
        if isinstance(module, Linear):
            module.finish()
    return layer


def tokens(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed))
