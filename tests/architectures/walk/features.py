"""What a model has of all that a `ModelConfig` can say, sizes aside."""

from dataclasses import MISSING, Field, fields, is_dataclass

from thirdeye.model.config import ModelConfig

Feature = tuple[str, str]  # the path of a field, and what it says


def features(config: ModelConfig) -> set[Feature]:
    """Each kind and flag that is set, each part that is there, each number that is not its default;
    and how far heads are turned and shared."""
    found = set(_said("", config))
    if config.rope:
        found.add(("rope", "whole" if config.rope.dim == config.head_dim else "in part"))
    shared = {config.num_heads: "each its own", 1: "one for all"}
    found.add(("num_kv_heads", shared.get(config.num_kv_heads, "some")))
    return found


def _said(path: str, value: object, field: "Field[object] | None" = None) -> list[Feature]:
    if is_dataclass(value):
        inner = [one for one in fields(value) if one.name != "architecture"]
        return [
            f for one in inner for f in _said(f"{path}.{one.name}", getattr(value, one.name), one)
        ]
    if isinstance(value, tuple) and value:
        return [feature for one in value for feature in _said(f"{path}[]", one)]
    if value is None or isinstance(value, (bool, str, tuple)):
        return [(path, str(value))]
    is_default = field is None or field.default is MISSING or value == field.default
    return [(path, "as ever" if is_default else "another")]
