"""Rotary position settings, in the three spellings checkpoints have for them.

transformers < 5   rope_theta, rope_scaling: {rope_type or type, factor, ...}
transformers 5     rope_parameters: {rope_theta, rope_type, factor, ...}
GGUF               rope.freq_base, rope.scaling.type; Llama 3's scaling is baked into a table,
                   the tensor `rope_freqs.weight`
"""

from dataclasses import replace

from thirdeye.model.config import RopeConfig, RopeScaling
from thirdeye.weights.architectures.common.limits import MAX_HEAD_DIM
from thirdeye.weights.architectures.common.rope_scaling import (
    divisors,
    gguf_yarn,
    huggingface_scaling,
    llama3_from_table,
    longrope_from_tables,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

NEVER = 1e29  # a divisor by which a pair of channels stands still
GGUF_KINDS = ("none", "linear", "yarn", "longrope")
TABLES = ("rope_freqs.weight", "rope_factors_long.weight")  # of factors, one a pair of channels


def huggingface_rope(
    fields: Fields,
    head_dim: int,
    context: int,
    default_theta: float = 10000.0,
    default_fraction: float = 1.0,
) -> RopeConfig:
    """Of all layers. `default_fraction`: of a head's channels that are turned."""
    theta = fields.positive("rope_theta", default_theta)
    fraction = fields.positive("partial_rotary_factor", default_fraction)
    parameters = rope_parameters(fields)
    if parameters is None:
        return RopeConfig(theta, _rotary_dim(fields, head_dim, fraction))
    return _rope(fields, parameters, head_dim, context, theta, fraction)


def huggingface_rope_of(
    fields: Fields, kind: str, head_dim: int, context: int, default_theta: float
) -> RopeConfig:
    """Of the layers of one kind, where each has its own: `rope_parameters: {kind: {...}}`."""
    by_kind = fields.nested("rope_parameters")
    parameters = None if by_kind is None else by_kind.nested(kind)
    if parameters is None:
        return RopeConfig(default_theta, head_dim)
    parameters.refuse("partial_rotary_factor", 1.0)  # transformers does not obey it here
    return _rope(fields, parameters, head_dim, context, default_theta, 1.0)


def proportional(
    fields: Fields, theta: float, head_dim: int, fraction: float, factor: float = 1.0
) -> RopeConfig:
    """Of all pairs of channels the first `fraction` are turned, each at the pace that it has among
    all (Gemma 4)."""
    if fraction > 1:
        raise fields.error("partial_rotary_factor", f"must be at most 1, got {fraction}.")
    num_pairs = int(fraction * head_dim // 2)
    return RopeConfig(theta, head_dim, RopeScaling("proportional", factor, num_pairs=num_pairs))


def gguf_proportional(fields: Fields, file: GGUFFile, head_dim: int) -> RopeConfig:
    """The same of a file, whose table of divisors says which pairs are turned: 1, and 1e30."""
    table = divisors(fields, file, "rope_freqs.weight", head_dim)
    num_pairs = int((table == 1).sum())
    if not ((table[:num_pairs] == 1).all() and (table[num_pairs:] >= NEVER).all()):
        raise fields.error(
            "rope_freqs.weight", "must be 1 for the pairs that are turned, then 1e30."
        )
    theta = fields.positive("rope.freq_base", 10000.0)
    return RopeConfig(theta, head_dim, RopeScaling("proportional", 1.0, num_pairs=num_pairs))


def refuse_partial_rotation(fields: Fields) -> None:
    """For models that turn all of a head: libraries differ in whether they obey this setting."""
    for part in (fields, fields.nested("rope_parameters"), fields.nested("rope_scaling")):
        if part is not None:
            part.refuse("partial_rotary_factor", 1.0)


def huggingface_rope_of_full(
    fields: Fields, kind: str, head_dim: int, context: int, default_theta: float
) -> RopeConfig:
    """Of the layers that see all keys. `rope_theta` and `rope_scaling`, which were there before
    layers had each their own, are theirs."""
    theta = fields.positive("rope_theta", default_theta)
    rope = huggingface_rope_of(fields, kind, head_dim, context, theta)
    parameters = fields.nested("rope_scaling")
    if parameters is None:
        return rope
    if "rope_type" not in parameters:
        raise parameters.error("type", "must be called 'rope_type' for libraries to agree on it.")
    scaling = huggingface_scaling(fields, parameters, rope.dim, context)
    return replace(rope, scaling=scaling or rope.scaling)


def _rope(
    fields: Fields,
    parameters: Fields,
    head_dim: int,
    context: int,
    default_theta: float,
    default_fraction: float,
) -> RopeConfig:
    theta = parameters.positive("rope_theta", default_theta)
    fraction = parameters.positive("partial_rotary_factor", default_fraction)
    dim = _rotary_dim(parameters, head_dim, fraction)
    return RopeConfig(theta, dim, huggingface_scaling(fields, parameters, dim, context))


def rope_parameters(fields: Fields) -> Fields | None:
    """Where both stand, `rope_scaling` counts, as in transformers 5: it is what a user adds to a
    config to stretch the context."""
    return fields.nested("rope_scaling") or fields.nested("rope_parameters")


def _rotary_dim(fields: Fields, head_dim: int, fraction: float) -> int:
    dim = int(head_dim * fraction) if fraction <= 1 else 0
    if dim < 2 or dim % 2:
        raise fields.error(
            "partial_rotary_factor",
            f"must give an even number of channels up to {head_dim}, got {fraction}.",
        )
    return dim


def gguf_rope(
    fields: Fields, file: GGUFFile, head_dim: int, *, is_partial: bool = False
) -> RopeConfig:
    dim = fields.integer("rope.dimension_count", head_dim, high=MAX_HEAD_DIM)
    if dim != head_dim and not is_partial:
        raise fields.error(
            "rope.dimension_count", f"must equal the head size {head_dim}, got {dim}."
        )
    if dim > head_dim or dim % 2:
        raise fields.error(
            "rope.dimension_count", f"must be even and at most {head_dim}, got {dim}."
        )
    theta = fields.positive("rope.freq_base", 10000.0)
    # As llama.cpp reads it: an old key names the factor, and a factor without a type is linear.
    old_key, key = "rope.scale_linear", "rope.scaling.factor"
    factor_key = old_key if old_key in fields and key not in fields else key
    kind = fields.text("rope.scaling.type", "linear" if factor_key in fields else "none")
    if kind not in GGUF_KINDS:
        raise fields.error(
            "rope.scaling.type",
            f"'{kind:.40}' is not supported; supported are {', '.join(GGUF_KINDS)}.",
        )
    table = next((name for name in TABLES if name in file.tensors), None)
    if table is not None and (
        kind == "yarn" or (kind == "linear" and fields.positive(factor_key) != 1)
    ):
        raise fields.error(
            "rope.scaling.type", f"'{kind}' is not supported beside the tensor {table}."
        )
    if "rope_freqs.weight" in file.tensors:
        return RopeConfig(theta, dim, llama3_from_table(fields, file, theta, dim))
    if "rope_factors_long.weight" in file.tensors:
        return RopeConfig(theta, dim, longrope_from_tables(fields, file, dim))
    if kind == "longrope":  # llama.cpp would go on without them
        raise fields.error(
            "rope.scaling.type", "'longrope' needs the tensor rope_factors_long.weight."
        )
    if kind == "yarn":
        return RopeConfig(theta, dim, gguf_yarn(fields))
    if kind == "linear":
        return RopeConfig(theta, dim, RopeScaling("linear", fields.positive(factor_key)))
    return RopeConfig(theta, dim)
