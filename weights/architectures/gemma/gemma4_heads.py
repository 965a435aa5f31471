"""Gemma 4's two sizes of heads, and what its layers have in common whoever describes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thirdeye.model.config import AttentionSpec, ModelConfig, RopeConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.common.heads import check_kv_heads
from thirdeye.weights.architectures.common.layer_types import FULL, SLIDING
from thirdeye.weights.architectures.common.limits import MAX_HEAD_DIM, MAX_HEADS
from thirdeye.weights.formats.fields import Fields

FULL_HEAD_DIM = 512
OF_A_LAYER = ("head_dim", "num_key_value_heads")  # what one may have of its own


@dataclass(frozen=True, slots=True)
class Heads:
    """Of the layers of one kind."""

    head_dim: int
    num_kv_heads: int


def heads_of(
    fields: Fields, config: ModelConfig, kinds: Sequence[str], *, keys_are_values: bool
) -> Mapping[str, Heads]:
    """By kind. Files of transformers 5.23 have what differs layer by layer, those before have it
    once for all layers that see all keys."""
    usual = Heads(config.head_dim, config.num_kv_heads)
    if fields.is_null("per_layer_config"):
        return {FULL: usual, SLIDING: usual}
    if "per_layer_config" not in fields:
        return {SLIDING: usual, FULL: _global_heads(fields, config, keys_are_values)}
    found: dict[str, Heads] = {}
    by_layer = fields.nested("per_layer_config")
    assert by_layer is not None
    named = _named_layers(by_layer, len(kinds))
    for layer, kind in enumerate(kinds):
        own = by_layer.nested(named[layer]) if layer in named else None
        heads = usual if own is None else _heads(own, config, OF_A_LAYER, usual)
        if found.setdefault(kind, heads) != heads:
            raise fields.error(
                "per_layer_config", f"must be the same for all layers of the kind '{kind}'."
            )
    return {FULL: usual, SLIDING: usual} | found


def _named_layers(by_layer: Fields, num_layers: int) -> dict[int, str]:
    """What each layer is called: by its number, which may have zeros before it."""
    found: dict[int, str] = {}
    for name in by_layer.values:
        key = name.removeprefix(by_layer.prefix)
        layer = int(key) if key.isascii() and key.isdecimal() and len(key) < 9 else num_layers
        if layer >= num_layers:
            raise by_layer.error(key, f"is no layer of this model, which has {num_layers}.")
        if layer in found:
            raise by_layer.error(key, f"is the layer '{found[layer]}' again; keep one of them.")
        found[layer] = key
    return found


def _global_heads(fields: Fields, config: ModelConfig, keys_are_values: bool) -> Heads:
    """transformers heeds the number only where keys are values."""
    names = "global_head_dim", "num_global_key_value_heads"
    heads = _heads(fields, config, names, Heads(FULL_HEAD_DIM, config.num_kv_heads))
    return heads if keys_are_values else replace(heads, num_kv_heads=config.num_kv_heads)


def _heads(fields: Fields, config: ModelConfig, names: tuple[str, str], usual: Heads) -> Heads:
    """`names`: of the size and of the number."""
    size, number = names
    if names == OF_A_LAYER:
        for name in fields.values:
            if (key := name.removeprefix(fields.prefix)) not in names:
                fields.refuse(key, [])
    head_dim = fields.integer(size, usual.head_dim, high=MAX_HEAD_DIM)
    if head_dim % 2:
        raise fields.error(size, f"rotary positions need an even head size, got {head_dim}.")
    num_kv_heads = fields.integer(number, usual.num_kv_heads, high=MAX_HEADS)
    check_kv_heads(fields, number, config.num_heads, num_kv_heads)
    return Heads(head_dim, num_kv_heads)


def spec_of(heads: Heads, rope: RopeConfig) -> AttentionSpec:
    """Of a layer that sees all keys and projects values."""
    return AttentionSpec(
        rope=rope, scale=1.0, head_dim=heads.head_dim, num_kv_heads=heads.num_kv_heads
    )


def shared(
    fields: Fields,
    key: str,
    attention: tuple[AttentionSpec, ...],
    kinds: Sequence[str],
    num_shared: int,
) -> tuple[AttentionSpec, ...]:
    """The last so many layers read the keys and values of the last one of their kind before them.
    `key`: the setting that says how many."""
    first = len(kinds) - num_shared
    sources = {kind: layer for layer, kind in enumerate(kinds[:first])}
    if num_shared and {*kinds} != {*sources}:
        raise fields.error(
            key, f"leaves no layer of each kind with keys of its own, got {num_shared}."
        )
    reading = [
        replace(spec, source=sources[kind], has_values=True)  # whichever it reads
        for spec, kind in zip(attention[first:], kinds[first:], strict=True)
    ]
    return (*attention[:first], *reading)


def with_experts(config: ModelConfig, num: int, num_chosen: int, width: int) -> ModelConfig:
    """Of each layer so many, so wide, beside the MLP."""
    spec = ExpertsSpec(num, num_chosen, width, is_renormalized=True, expert_scales=True)
    return replace(config, experts=spec, experts_beside=True)


def gemma4_config(
    config: ModelConfig, attention: tuple[AttentionSpec, ...], logit_cap: float | None
) -> ModelConfig:
    """`config`: as of any Gemma."""
    return replace(
        config,
        rope=attention[-1].rope,
        attention=attention,
        qk_norm=True,
        value_norm=True,
        post_norm=True,
        layer_scale=True,
        logit_softcap=logit_cap,
    )
