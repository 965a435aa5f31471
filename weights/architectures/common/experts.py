"""What models with experts have in common: their number in either format, and usual names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.common.limits import (
    MAX_EXPERTS,
    MAX_EXPERTS_IN_ALL,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
)
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields

GGUF_SIGMOID = 2  # of llama.cpp's numbers for what becomes of scores
MLP = "blocks.{i}.mlp"
ROUTER = TensorTarget(f"{MLP}.router.linear.weight")
CHOICE_BIAS = TensorTarget(f"{MLP}.router.choice_bias")
SHARED_GATE = TensorTarget(f"{MLP}.shared_gate.weight")
GATE = TensorTarget(f"{MLP}.experts.{{e}}.gate_up.weight", "gate")
UP = TensorTarget(f"{MLP}.experts.{{e}}.gate_up.weight", "up")
GATE_UP = TensorTarget(f"{MLP}.experts.{{e}}.gate_up.weight")
UNGATED_UP = TensorTarget(f"{MLP}.experts.{{e}}.up.weight")
DOWN = TensorTarget(f"{MLP}.experts.{{e}}.down.weight")
BESIDE = {  # of the MLP that all tokens take
    "gate_proj": TensorTarget(f"{MLP}.shared.gate_up.weight", "gate"),
    "up_proj": TensorTarget(f"{MLP}.shared.gate_up.weight", "up"),
    "down_proj": TensorTarget(f"{MLP}.shared.down.weight"),
}
ONE_BY_ONE = {  # transformers' usual names
    "mlp.gate.weight": ROUTER,
    "mlp.experts.{e}.gate_proj.weight": GATE,
    "mlp.experts.{e}.up_proj.weight": UP,
    "mlp.experts.{e}.down_proj.weight": DOWN,
}
GGUF_EXPERTS = {
    "ffn_gate_inp.weight": ROUTER,
    "ffn_gate_exps.weight": GATE,
    "ffn_up_exps.weight": UP,
    "ffn_gate_up_exps.weight": GATE_UP,  # both as one, the gates first
    "ffn_down_exps.weight": DOWN,
}
GGUF_ONE_BY_ONE = {  # what converters wrote until April 2024: a tensor for each expert
    "ffn_gate.{e}.weight": GATE,
    "ffn_up.{e}.weight": UP,
    "ffn_down.{e}.weight": DOWN,
}
GGUF_BESIDE = {
    "ffn_gate_shexp.weight": BESIDE["gate_proj"],
    "ffn_up_shexp.weight": BESIDE["up_proj"],
    "ffn_down_shexp.weight": BESIDE["down_proj"],
}
WITH_GATED_BESIDE = {  # of Qwen2 and Qwen3-Next: each token takes that MLP by a sigmoid
    **ONE_BY_ONE,
    **{f"mlp.shared_expert.{name}.weight": target for name, target in BESIDE.items()},
    "mlp.shared_expert_gate.weight": SHARED_GATE,
}
GGUF_WITH_GATED_BESIDE = {
    **GGUF_EXPERTS,
    **GGUF_BESIDE,
    "ffn_gate_inp_shexp.weight": replace(SHARED_GATE, is_row=True),
}


def either(fields: Fields, names: tuple[str, str], default: int) -> int:
    """What transformers has two names for."""
    found, other = (fields.integer(name, default, high=MAX_EXPERTS) for name in names)
    if all(name in fields for name in names) and found != other:
        raise fields.error(names[1], f"must equal '{names[0]}' ({found}), got {other}.")
    return found if names[0] in fields else other


def either_count(
    fields: Fields,
    default: int,
    config: ModelConfig,
    names: tuple[str, str] = ("num_experts", "num_local_experts"),
) -> int:
    """How many experts a layer has."""
    count(fields, names[1], default, config)
    return count(fields, names[0], either(fields, names, default), config)


def spec_of(fields: Fields, key: str, **settings: Any) -> ExpertsSpec:
    """`key`: the setting to name where they do not fit together."""
    try:
        return ExpertsSpec(**settings)
    except ValueError as error:
        raise fields.error(key, f"does not fit the others: {error}") from None


def count(fields: Fields, key: str, default: int, config: ModelConfig) -> int:
    """How many experts a layer has."""
    found = fields.integer(key, default, high=MAX_EXPERTS)
    if found * config.num_hidden_layers > MAX_EXPERTS_IN_ALL:
        raise fields.error(
            key,
            f"of {config.num_hidden_layers} layers is more than {MAX_EXPERTS_IN_ALL:,} experts in "
            f"all, got {found}.",
        )
    return found


def chosen(fields: Fields, key: str, default: int, num_experts: int) -> int:
    """How many of them a token takes."""
    return fields.integer(key, default, high=num_experts)


def size(fields: Fields, key: str, default: int) -> int:
    return fields.integer(key, default, high=MAX_INTERMEDIATE)


def gguf_experts(fields: Fields, config: ModelConfig, **more: Any) -> ExpertsSpec:
    """As wide as a layer's MLP, if `more` does not say otherwise."""
    num_experts = count(fields, "expert_count", 0, config)
    if "expert_used_count" not in fields:
        raise fields.error("expert_count", "needs 'expert_used_count' beside it.")
    num_chosen = chosen(fields, "expert_used_count", 0, num_experts)
    width = config.intermediate_size
    settings = {"intermediate_size": width} | more
    key = "expert_group_count" if "num_groups" in more else "expert_used_count"
    return spec_of(fields, key, num_experts=num_experts, num_chosen=num_chosen, **settings)


def sparse_layers(fields: Fields, config: ModelConfig) -> tuple[int, ...]:
    """Which layers have one MLP for all tokens, as Qwen says it: each that is listed, and all but
    every nth."""
    step = fields.integer("decoder_sparse_step", 1, high=MAX_LAYERS)
    listed = fields.raw("mlp_only_layers", [])
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        raise fields.error("mlp_only_layers", "must be a list of layers' numbers.")
    layers = range(config.num_hidden_layers)
    return tuple(layer for layer in layers if layer in listed or (layer + 1) % step)


def with_experts(
    table: NameTable, config: ModelConfig, names: Mapping[str, TensorTarget]
) -> NameTable:
    """`names` belong to a layer and start behind its number, as those in the table do."""
    assert config.experts is not None
    prefix = "blk.{i}." if any(name.startswith("blk.") for name in table.names) else "layers.{i}."
    own = {prefix + name: target for name, target in names.items()}
    return replace(table, names={**table.names, **own}, num_experts=config.experts.num_experts)
