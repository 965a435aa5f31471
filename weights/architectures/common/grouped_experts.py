"""DeepSeek V3's experts, which others took over: sigmoid scores, a bias that decides with them and
weighs nothing, groups of which the best may be chosen from, and an MLP that all tokens take.
"""

from dataclasses import dataclass, replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import MAX_GROUPS, ExpertsSpec, Scoring
from thirdeye.weights.architectures.common.experts import (
    BESIDE,
    CHOICE_BIAS,
    GGUF_BESIDE,
    GGUF_EXPERTS,
    ONE_BY_ONE,
    chosen,
    either_count,
    gguf_experts,
    size,
    spec_of,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS
from thirdeye.weights.architectures.common.name_table import with_bias
from thirdeye.weights.formats.fields import Fields

MAX_SHARED = 64
COUNTS = ("n_routed_experts", "num_local_experts")
WITH_BESIDE = {
    **ONE_BY_ONE,
    **with_bias({f"mlp.shared_experts.{name}.weight": to for name, to in BESIDE.items()}),
}
WITH_CHOICE_BIAS = {**WITH_BESIDE, "mlp.gate.e_score_correction_bias": CHOICE_BIAS}
GGUF_NAMES = {**GGUF_EXPERTS, **GGUF_BESIDE, "exp_probs_b.bias": CHOICE_BIAS}


@dataclass(frozen=True, slots=True)
class GroupedDefaults:
    """As `Defaults`, of experts."""

    num_experts: int
    num_chosen: int
    intermediate_size: int
    scale: float = 1.0
    num_groups: int = 1
    num_chosen_groups: int = 1
    is_renormalized: bool = True
    num_shared: int = 1


def grouped_experts(
    fields: Fields,
    config: ModelConfig,
    defaults: GroupedDefaults,
    counts: tuple[str, str] = COUNTS,
    shared_size: int | None = None,
) -> ExpertsSpec:
    """`counts`: two names for how many experts there are. `shared_size`: how wide the MLP is that
    all tokens take, where it is not so many times an expert."""
    num_experts = either_count(fields, defaults.num_experts, config, counts)
    width = size(fields, "moe_intermediate_size", defaults.intermediate_size)
    num_groups = fields.integer("n_group", defaults.num_groups, high=MAX_GROUPS)
    num_chosen_groups = min(defaults.num_chosen_groups, num_groups)
    if shared_size is None:
        count = fields.integer("n_shared_experts", defaults.num_shared, low=0, high=MAX_SHARED)
        shared_size = width * count
    return spec_of(
        fields,
        "n_group",
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", defaults.num_chosen, num_experts),
        intermediate_size=width,
        scoring=Scoring.SIGMOID,
        is_renormalized=fields.boolean("norm_topk_prob", defaults.is_renormalized),
        scale=fields.positive("routed_scaling_factor", defaults.scale),
        choice_bias=True,
        num_groups=num_groups,
        num_chosen_groups=fields.integer("topk_group", num_chosen_groups, high=num_groups),
        shared_size=shared_size,
    )


def gguf_grouped_experts(
    fields: Fields, config: ModelConfig, shared_size: int | None = None
) -> ExpertsSpec:
    """Scores are whatever the reader says then; `shared_size` as above."""
    width = size(fields, "expert_feed_forward_length", 0)
    num_groups = fields.integer("expert_group_count", 1, high=MAX_GROUPS)
    if shared_size is None:
        shared_size = width * fields.integer("expert_shared_count", 0, low=0, high=MAX_SHARED)
    return gguf_experts(
        fields,
        config,
        intermediate_size=width,
        scoring=Scoring.SIGMOID,
        is_renormalized=fields.boolean("expert_weights_norm", False),
        scale=fields.positive("expert_weights_scale", 1.0),
        choice_bias=True,
        num_groups=num_groups,
        num_chosen_groups=fields.integer("expert_group_used_count", 1, high=num_groups),
        shared_size=shared_size,
    )


def with_dense_first(
    fields: Fields, config: ModelConfig, key: str, default: int, spec: ExpertsSpec
) -> ModelConfig:
    """The first so many layers have one MLP for all tokens, the others experts."""
    num_dense = fields.integer(key, default, low=0, high=MAX_LAYERS)
    return replace(config, experts=spec, dense_layers=first_layers(num_dense, config))


def first_layers(num_dense: int, config: ModelConfig) -> tuple[int, ...]:
    return tuple(range(min(num_dense, config.num_hidden_layers)))
