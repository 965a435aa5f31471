"""A layer of experts as a textbook writes it: token by token, expert by expert, in float64."""

import torch
from torch import Tensor

from thirdeye.model.experts_spec import ExpertsSpec, Scoring

Gate = tuple[Tensor, Tensor, Tensor]  # gate, up [inner, hidden], down [hidden, inner]


def chosen_by_hand(
    scores: list[float], spec: ExpertsSpec, choice_bias: list[float] | None
) -> list[int]:
    """The experts that a token takes, best first."""
    wanted = [s + b for s, b in zip(scores, choice_bias or [0.0] * len(scores), strict=True)]
    size = len(wanted) // spec.num_groups
    groups = [range(g * size, (g + 1) * size) for g in range(spec.num_groups)]
    worth = [
        sum(sorted((wanted[e] for e in g), reverse=True)[: spec.best_of_group]) for g in groups
    ]
    best = sorted(range(len(groups)), key=lambda g: -worth[g])
    reach = best[: spec.num_chosen_groups] if spec.num_groups > 1 else best
    within = [expert for g in reach for expert in groups[g]]
    return sorted(within, key=lambda expert: -wanted[expert])[: spec.num_chosen]


def route_by_hand(
    logits: Tensor,
    spec: ExpertsSpec,
    choice_bias: Tensor | None,
    expert_scales: Tensor | None = None,
) -> list[dict[int, float]]:
    """logits [T, num_experts] -> for each token whom it asks, and what the answer weighs."""
    found = []
    for row in logits.double():
        is_sigmoid = spec.scoring is Scoring.SIGMOID
        scores = (row.sigmoid() if is_sigmoid else row.softmax(0)).tolist()
        bias = None if choice_bias is None else choice_bias.double().tolist()
        chosen = chosen_by_hand(scores, spec, bias)
        total = sum(scores[e] for e in chosen) if spec.is_renormalized else 1.0
        weights = {e: scores[e] / total * spec.scale for e in chosen}
        if expert_scales is not None:
            weights = {e: weight * expert_scales[e].item() for e, weight in weights.items()}
        found.append(weights)
    return found


def experts_by_hand(
    x: Tensor, routes: list[dict[int, float]], experts: list[Gate], scales_input: bool = False
) -> Tensor:
    """x [T, hidden] -> [T, hidden] float64, with SiLU. A weight is of the answer, or of the
    question."""
    rows = []
    for token, weights in zip(x.double(), routes, strict=True):
        row = torch.zeros_like(token)
        for expert, weight in weights.items():
            gate, up, down = (matrix.double() for matrix in experts[expert])
            asked, answered = (weight, 1.0) if scales_input else (1.0, weight)
            own = asked * token
            row += answered * (down @ (torch.nn.functional.silu(gate @ own) * (up @ own)))
        rows.append(row)
    return torch.stack(rows)
