"""A layer of experts: a router chooses some for each token, and what they say is added by weight.

Rows are grouped by expert, so that each expert's weights are read once a step. What a token gets
does not depend on who shares its experts: their products are the house's row-invariant ones, and
its own few results are added in the order of its choice. The textbook, a loop over tokens, is
`tests/oracles/experts.py`; `fused_experts.py` has the same in kernels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from thirdeye.model.declare.mlp import ExpertsPart, GatedMLPPart, MLPPart, RouterPart
from thirdeye.model.experts_spec import ExpertsSpec, Scoring
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import sigmoid
from thirdeye.model.parts.layers import MLP, GatedMLP
from thirdeye.model.placement import Placement


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts a step's tokens take, best first, and what each of them weighs."""

    chosen: Tensor  # [T, num_chosen] int64
    weights: Tensor  # [T, num_chosen] float32


class Router(nn.Module):
    """It is small and decides much, so it is kept in the model's own dtype however the rest is."""

    def __init__(self, part: RouterPart, where: Placement) -> None:
        super().__init__()
        self.spec = part.spec
        self.linear = make_linear(part.linear, replace(where, quantize="none"))
        self.choice_bias = where.empty(part.spec.num_experts) if part.spec.choice_bias else None
        self.expert_scales = where.empty(part.spec.num_experts) if part.spec.expert_scales else None

    def forward(self, x: Tensor) -> Routing:
        """x [T, hidden_size] -> whom each token asks."""
        logits = self.linear(x).float()
        return choose_experts(logits, self.spec, self.choice_bias, self.expert_scales)


def choose_experts(
    logits: Tensor,
    spec: ExpertsSpec,
    choice_bias: Tensor | None,
    expert_scales: Tensor | None = None,
) -> Routing:
    """logits [T, num_experts] float32."""
    scores = sigmoid(logits) if spec.scoring is Scoring.SIGMOID else logits.softmax(-1)
    wanted = scores if choice_bias is None else scores + choice_bias.float()
    if spec.num_groups > 1:
        wanted = _within_groups(wanted, spec)
    chosen = wanted.topk(spec.num_chosen, dim=-1).indices
    weights = scores.gather(-1, chosen)
    if spec.is_renormalized:
        weights = weights / weights.sum(-1, keepdim=True)
    if expert_scales is not None:
        weights = weights * expert_scales.float()[chosen]
    return Routing(chosen, weights * spec.scale)


def _within_groups(wanted: Tensor, spec: ExpertsSpec) -> Tensor:
    """[T, num_experts] -> the same, with minus infinity for those of groups that are not chosen."""
    groups = wanted.view(len(wanted), spec.num_groups, -1)  # [T, groups, experts of one]
    worth = groups.topk(spec.best_of_group, dim=-1).values.sum(-1)  # [T, groups]
    best = worth.topk(spec.num_chosen_groups, dim=-1).indices
    is_out = torch.ones_like(worth, dtype=torch.bool).scatter_(-1, best, False)
    return groups.masked_fill(is_out.unsqueeze(-1), float("-inf")).flatten(-2)


class Experts(nn.Module):
    """`experts` and `shared` are this rank's shares: what they make is summed up once."""

    router_class: type[Router] = Router
    mlp_class: type[GatedMLP] = GatedMLP
    plain_class: type[MLP] = MLP  # without a gate

    def __init__(self, part: ExpertsPart, where: Placement) -> None:
        super().__init__()
        self._ranks = where.ranks
        self._scales_input = part.router.spec.scales_input
        self.router = self.router_class(part.router, where)
        self.experts = nn.ModuleList(self._made(expert, where) for expert in part.experts)
        self.shared = self._made(part.shared, where) if part.shared else None
        plain = replace(where, quantize="none")
        self.shared_gate = make_linear(part.shared_gate, plain) if part.shared_gate else None

    def _made(self, part: GatedMLPPart | MLPPart, where: Placement) -> MLP | GatedMLP:
        if isinstance(part, MLPPart):
            return self.plain_class(part, where)
        return self.mlp_class(part, where)

    def forward(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        return self.answer(x, self.router(x))

    def answer(self, x: Tensor, routing: Routing) -> Tensor:
        """The same, of the experts that each token asks."""
        return self._ranks.add_up(self.mixed(x, routing).to(x.dtype))

    def mixed(self, x: Tensor, routing: Routing) -> Tensor:
        """This rank's share of what all experts say, [T, hidden_size] in float32."""
        by_token = self.said(x, routing).float()
        weights = routing.weights
        if self._scales_input:
            weights = torch.ones_like(weights)
        total = by_token[:, 0] * weights[:, :1]
        for place in range(1, by_token.shape[1]):
            total += by_token[:, place] * weights[:, place : place + 1]
        if self.shared is not None:
            beside = self.shared(x).float()
            if self.shared_gate is not None:
                beside = beside * sigmoid(self.shared_gate(x).float())
            total += beside
        return total

    def said(self, x: Tensor, routing: Routing) -> Tensor:
        """What each token's experts say, [T, num_chosen, hidden_size]."""
        num_chosen = routing.chosen.shape[1]
        asked = routing.chosen.flatten()  # [T * num_chosen]
        said = x.new_empty(len(asked), x.shape[1])
        for expert in sorted(set(asked.tolist())):
            rows = (asked == expert).nonzero().squeeze(1)
            inputs = x[rows // num_chosen]
            if self._scales_input:
                inputs = inputs * routing.weights.flatten()[rows, None].to(x.dtype)
            said[rows] = self.experts[expert](inputs)
        return said.view(len(x), num_chosen, -1)
