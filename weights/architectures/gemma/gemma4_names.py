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
