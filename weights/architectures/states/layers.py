"""Which layers keep a state, and that they fit the rest of the model."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.state_spec import StateSpec
from thirdeye.weights.architectures.common.limits import MAX_HEADS, MAX_LAYERS
from thirdeye.weights.formats.fields import Fields

KV_HEADS = "attention.head_count_kv"


def overlaid(fields: Fields, instead: Mapping[str, Any]) -> Fields:
    """The same, which say something else of these keys; of all others it is noted who asks."""
    own = {fields.prefix + key: value for key, value in instead.items()}
    values: Any = ChainMap(own, cast(Any, fields.values))
    return replace(fields, values=values)


def per_layer(fields: Fields, key: str, by_rule: Sequence[str], known: Sequence[str]) -> list[str]:
    """One of the known kinds a layer; `by_rule` are those of a config that does not name them."""
    kinds = fields.raw(key, list(by_rule))
    if not isinstance(kinds, list) or len(kinds) != len(by_rule) or set(map(str, kinds)) - {*known}:
        raise fields.error(
            key, f"must name one of {', '.join(known)} for each of {len(by_rule)} layers."
        )
    return kinds


def stateless_layers(fields: Fields) -> tuple[Fields, tuple[int, ...]]:
    """Of a GGUF file that says a number of key-value heads for each layer: the same with that of
    those that attend, and which do not."""
    counts = fields.raw(KV_HEADS)
    is_list = hasattr(counts, "__len__") and not isinstance(counts, str)
    heads = [int(count) for count in counts] if is_list else []
    layers = fields.integer("block_count", high=MAX_LAYERS)
    if len(heads) != layers or len({*heads} - {0}) != 1:
        raise fields.error(KV_HEADS, f"must say 0 or one other number for each of {layers} layers.")
    plain = overlaid(fields, {KV_HEADS: max(heads)})
    plain.integer(KV_HEADS, high=MAX_HEADS)
    return plain, tuple(layer for layer, count in enumerate(heads) if not count)


def with_states(
    fields: Fields, key: str, config: ModelConfig, spec: StateSpec, layers: tuple[int, ...]
) -> ModelConfig:
    """`key`: the setting that says which layers."""
    if not layers:
        return config
    if len(layers) == config.num_hidden_layers:
        raise fields.error(key, "leaves no layer that attends, which is not supported.")
    return replace(config, state=spec, state_layers=layers)


def without_positions(config: ModelConfig) -> ModelConfig:
    """The same, of which no layer turns anything: layers with a state know the order."""
    specs = config.attention or (AttentionSpec(),) * config.num_hidden_layers
    return replace(config, attention=tuple(replace(spec, rope=None) for spec in specs))
