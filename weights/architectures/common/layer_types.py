"""Which layers see all keys and which a window: `layer_types`, or an older rule."""

from collections.abc import Sequence
from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig, RopeConfig
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.formats.fields import Fields

Attention = tuple[AttentionSpec, ...]  # one spec a layer
FULL, SLIDING = KINDS = ("full_attention", "sliding_attention")


def read_layer_types(fields: Fields, by_rule: Sequence[str]) -> list[str]:
    """One kind a layer; `by_rule` are those of a config that does not name them."""
    kinds = fields.raw("layer_types", list(by_rule))
    if not isinstance(kinds, list) or len(kinds) != len(by_rule) or set(map(str, kinds)) - {*KINDS}:
        raise fields.error(
            "layer_types",
            f"must name one of {', '.join(KINDS)} for each of {len(by_rule)} layers.",
        )
    return kinds


def every_nth_full(num_layers: int, n: int) -> list[str]:
    """The last of each n layers sees all keys."""
    return [SLIDING if (layer + 1) % n else FULL for layer in range(num_layers)]


def gguf_layer_types(fields: Fields, num_layers: int, period: int) -> list[str]:
    """Of a GGUF file: which layers see a window, or that the last of each so many does not; by
    default, of each `period`."""
    key = "attention.sliding_window_pattern"
    pattern = fields.raw(key, period)
    if isinstance(pattern, int):
        return every_nth_full(num_layers, fields.integer(key, period, high=MAX_LAYERS))
    is_list = hasattr(pattern, "__len__") and not isinstance(pattern, str)
    if not is_list or len(pattern) != num_layers:
        raise fields.error(
            key, f"must be a number, or say yes or no for each of {num_layers} layers."
        )
    return [SLIDING if is_near else FULL for is_near in pattern]


def read_window(fields: Fields, default: int) -> int | None:
    """How many keys a layer with a window sees; null: there are no windows."""
    if fields.is_null("sliding_window"):
        return None
    return fields.integer("sliding_window", default, high=MAX_POSITIONS)


def windows(kinds: Sequence[str], rope: RopeConfig | None, window: int | None) -> Attention:
    """One spec a layer, or none at all where every layer sees all keys."""
    if window is None or SLIDING not in kinds:
        return ()
    full = AttentionSpec(rope=rope)
    return by_kind(kinds, full, replace(full, window=window))


def by_kind(kinds: Sequence[str], full: AttentionSpec, near: AttentionSpec) -> Attention:
    """`near`: of the layers that see a window."""
    return tuple(near if kind == SLIDING else full for kind in kinds)


def with_turned_windows(
    config: ModelConfig, kinds: Sequence[str], window: int | None
) -> ModelConfig:
    """Layers with a window turn their queries and keys, those that see all keys do not."""
    near = AttentionSpec(rope=config.rope, window=window)
    return replace(config, attention=by_kind(kinds, AttentionSpec(), near))
