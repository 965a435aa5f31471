"""Rotary position settings, in the three spellings checkpoints have for them.

transformers < 5   rope_theta, rope_scaling: {rope_type or type, factor, ...}
transformers 5     rope_parameters: {rope_theta, rope_type, factor, ...}
GGUF               rope.freq_base, rope.scaling.type; Llama 3's scaling is baked into a table,
                   the tensor `rope_freqs.weight`
"""

import math

import numpy as np
import numpy.typing as npt

from thirdeye.model.config import RopeConfig, RopeScaling
from thirdeye.weights.architectures.limits import MAX_HEAD_DIM, MAX_POSITIONS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.dequantize import dequantize
from thirdeye.weights.formats.gguf.reader import GGUFFile


def huggingface_rope(
    fields: Fields, head_dim: int, max_position_embeddings: int, default_theta: float = 10000.0
) -> RopeConfig:
    parameters = _rope_parameters(fields)
    theta = fields.positive("rope_theta", default_theta)
    fraction = fields.positive("partial_rotary_factor", 1.0)
    if parameters is None:
        return RopeConfig(theta, _rotary_dim(fields, head_dim, fraction))
    theta = parameters.positive("rope_theta", theta)
    dim = _rotary_dim(parameters, head_dim, parameters.positive("partial_rotary_factor", fraction))
    return RopeConfig(theta, dim, _scaling(parameters, max_position_embeddings))


def _rope_parameters(fields: Fields) -> Fields | None:
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


def _scaling(parameters: Fields, max_position_embeddings: int) -> RopeScaling | None:
    key = "rope_type" if "rope_type" in parameters else "type"
    kind = parameters.text(key, "default")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", parameters.positive("factor"))
    if kind == "llama3":
        low, high = parameters.positive("low_freq_factor"), parameters.positive("high_freq_factor")
        if low >= high:
            raise parameters.error(
                "low_freq_factor", f"must be below 'high_freq_factor' {high}, got {low}."
            )
        original = parameters.integer(
            "original_max_position_embeddings", max_position_embeddings, high=MAX_POSITIONS
        )
        return RopeScaling("llama3", parameters.positive("factor"), low, high, original)
    raise parameters.error(
        key, f"'{kind:.40}' is not supported; supported are default, linear and llama3."
    )


def gguf_rope(fields: Fields, file: GGUFFile, head_dim: int) -> RopeConfig:
    dim = fields.integer("rope.dimension_count", head_dim, high=MAX_HEAD_DIM)
    if dim != head_dim:
        raise fields.error(
            "rope.dimension_count", f"must equal the head size {head_dim}, got {dim}."
        )
    theta = fields.positive("rope.freq_base", 10000.0)
    # As llama.cpp reads it: an old key names the factor, and a factor without a type is linear.
    old_key, key = "rope.scale_linear", "rope.scaling.factor"
    factor_key = old_key if old_key in fields and key not in fields else key
    kind = fields.text("rope.scaling.type", "linear" if factor_key in fields else "none")
    if kind not in ("none", "linear"):
        raise fields.error(
            "rope.scaling.type", f"'{kind:.40}' is not supported; supported are none and linear."
        )
    if "rope_freqs.weight" in file.tensors:
        return RopeConfig(theta, dim, _llama3_from_table(fields, file, theta, dim))
    if kind == "linear":
        return RopeConfig(theta, dim, RopeScaling("linear", fields.positive(factor_key)))
    return RopeConfig(theta, dim)


def _llama3_from_table(fields: Fields, file: GGUFFile, theta: float, dim: int) -> RopeScaling:
    """The rule behind the table. All released Llama 3 models share three of its four numbers; the
    fourth, the factor, is the table's largest entry. A table that this rule does not reproduce is
    refused."""
    info = file.tensors["rope_freqs.weight"]
    unsupported = fields.error("rope_freqs.weight", "is not a table of Llama 3's rope scaling.")
    if info.shape != (dim // 2,):
        raise unsupported
    table = dequantize(file.tensor_bytes(info.name), info.type, info.shape)
    factor = float(table.max())
    if not (math.isfinite(factor) and factor >= 1):
        raise unsupported
    scaling = RopeScaling("llama3", factor, 1.0, 4.0, 8192)
    if not np.allclose(table, llama3_divisors(scaling, theta, dim), rtol=1e-4):
        raise unsupported
    return scaling


def llama3_divisors(scaling: RopeScaling, theta: float, dim: int) -> npt.NDArray[np.float64]:
    """By how much each rotary frequency is divided: 1 for short wavelengths, `factor` for long
    ones, and a smooth ramp between. Source: `_compute_llama3_parameters` of transformers. Returns
    [dim / 2]."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    turns = scaling.original_max_position_embeddings / wavelengths
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    ramp = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - ramp) / scaling.factor + ramp)
