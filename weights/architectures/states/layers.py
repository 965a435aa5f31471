"""Which layers keep a state, and that they fit the rest of the model."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import StateSpec
from thirdeye.weights.formats.fields import Fields


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


def with_states(
    fields: Fields, key: str, config: ModelConfig, spec: StateSpec, layers: tuple[int, ...]
) -> ModelConfig:
    """`key`: the setting that says which layers."""
    if not layers:
        return config
    if len(layers) == config.num_hidden_layers:
        raise fields.error(key, "leaves no layer that attends, which is not supported.")
    return replace(config, state=spec, state_layers=layers)
