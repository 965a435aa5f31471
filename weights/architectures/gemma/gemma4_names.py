"""Where Gemma 4's tensors go that others have not, and which of its layers have none."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget

INPUT_TABLE = TensorTarget("layer_inputs.table.weight")
INPUT_PROJECTION = TensorTarget("layer_inputs.projection.weight")
INPUT_NORM = TensorTarget("layer_inputs.norm.weight")
OWN_GATE = TensorTarget("blocks.{i}.layer_input.gate.weight")
OWN_PROJECTION = TensorTarget("blocks.{i}.layer_input.project.weight")
OWN_NORM = TensorTarget("blocks.{i}.layer_input.norm.weight")

MLP = "blocks.{i}.mlp"  # of a model with experts beside it
DENSE = {
    "gate": TensorTarget(f"{MLP}.mlp.gate_up.weight", "gate"),
    "up": TensorTarget(f"{MLP}.mlp.gate_up.weight", "up"),
    "down": TensorTarget(f"{MLP}.mlp.down.weight"),
}
DENSE_NORM = TensorTarget(f"{MLP}.norm.weight")
DENSE_POST_NORM = TensorTarget(f"{MLP}.post_norm.weight")
EXPERTS_NORM = TensorTarget(f"{MLP}.experts_norm.weight")
EXPERTS_POST_NORM = TensorTarget(f"{MLP}.experts_post_norm.weight")
ROUTER = TensorTarget(f"{MLP}.experts.router.linear.weight")
ROUTER_NORM = TensorTarget(f"{MLP}.router_norm.weight")
EXPERT_SCALES = TensorTarget(f"{MLP}.experts.router.expert_scales")
GATE_UP = TensorTarget(f"{MLP}.experts.experts.{{e}}.gate_up.weight")
GATE, UP = replace(GATE_UP, part="gate"), replace(GATE_UP, part="up")
DOWN = TensorTarget(f"{MLP}.experts.experts.{{e}}.down.weight")


def with_experts_beside(
    table: NameTable, config: ModelConfig, names: Mapping[str, TensorTarget]
) -> NameTable:
    """With these names, which belong to a layer. What the router reads is divided by the root of
    the hidden size: so its norm's weights are for us."""
    if config.experts is None:
        return table
    prefix = "blk.{i}." if "blk.{i}.attn_q.weight" in table.names else "layers.{i}."
    own = {prefix + name: target for name, target in names.items()}
    scale = config.hidden_size**-0.5
    own = {
        name: replace(target, scale=scale) if target is ROUTER_NORM else target
        for name, target in own.items()
    }
    return replace(table, names={**table.names, **own}, num_experts=config.experts.num_experts)


def with_layer_inputs(
    table: NameTable, config: ModelConfig, *names: Mapping[str, TensorTarget]
) -> NameTable:
    """With these names, if the model has what they are of."""
    if not config.layer_input_size:
        return table
    more = {name: target for own in names for name, target in own.items()}
    return replace(table, names={**table.names, **more})


def without_shared(table: NameTable, config: ModelConfig, names: Iterable[str]) -> NameTable:
    """These are ignored in the layers that read the keys and values of others: there are files that
    have them."""
    reading = [layer for layer, spec in enumerate(config.attention) if spec.source is not None]
    own = {name.replace("{i}", str(layer)) for name in names for layer in reading}
    return replace(table, ignored=table.ignored | own)
