"""How a checkpoint's rotary frequencies are stretched: each kind's numbers, out of each form.

What they do is in `model/parts/rope.py`; `rope_settings.py` has the rest of the rotary settings.
"""

import math

import numpy as np
import numpy.typing as npt

from thirdeye.model.config import RopeScaling
from thirdeye.weights.architectures.common.limits import MAX_POSITIONS
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.dequantize import dequantize
from thirdeye.weights.formats.gguf.reader import GGUFFile

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
ORIGINAL = "original_max_position_embeddings"
HIGH_FREQUENCIES = (4.0, 1.0)  # of Llama 3's stretch: of Llama 3's own models, of Llama 4 Scout


def huggingface_scaling(
    fields: Fields, parameters: Fields, dim: int, context: int
) -> RopeScaling | None:
    """`parameters` are those of rotary positions in a config's `fields`."""
    key = "rope_type" if "rope_type" in parameters else "type"
    kind = parameters.text(key, "default")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", parameters.positive("factor"))
    if kind == "dynamic":
        parameters.refuse("alpha")  # Hunyuan's, which reads it itself
        factor = parameters.positive("factor")
        return RopeScaling("dynamic", factor, original_max_position_embeddings=context)
    owner = fields if ORIGINAL in fields else parameters  # as in transformers 5
    original = owner.integer(ORIGINAL, context, high=MAX_POSITIONS)
    if kind == "llama3":
        return _llama3(parameters, original)
    if kind == "yarn":
        return _yarn(parameters, original, context)
    if kind in ("longrope", "su"):
        return _longrope(parameters, original, context, dim)
    raise parameters.error(key, f"'{kind:.40}' is not supported; supported are {', '.join(KINDS)}.")


def _llama3(parameters: Fields, original: int) -> RopeScaling:
    low, high = parameters.positive("low_freq_factor"), parameters.positive("high_freq_factor")
    if low > high:  # alike: nothing is mixed (Llama 4 Scout)
        raise parameters.error(
            "low_freq_factor", f"must not be above 'high_freq_factor' {high}, got {low}."
        )
    return RopeScaling("llama3", parameters.positive("factor"), low, high, original)


def _yarn(parameters: Fields, original: int, context: int) -> RopeScaling:
    factor = parameters.positive("factor", context / original)
    if "attention_factor" in parameters:
        attention = parameters.positive("attention_factor")
    elif parameters.raw("mscale", 0) and parameters.raw("mscale_all_dim", 0):  # 0 says nothing
        attention = yarn_magnitude(factor, parameters.positive("mscale"))
        attention /= yarn_magnitude(factor, parameters.positive("mscale_all_dim"))
    else:
        attention = yarn_magnitude(factor)
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=original,
        attention_factor=as_float32(attention),
        beta_fast=parameters.positive("beta_fast", 32.0),
        beta_slow=parameters.positive("beta_slow", 1.0),
        is_truncated=parameters.boolean("truncate", True),
    )


def yarn_magnitude(factor: float, scale: float = 1.0) -> float:
    """By how much longer contexts sharpen the softmax, in YaRN's terms."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _longrope(parameters: Fields, original: int, context: int, dim: int) -> RopeScaling:
    factor = parameters.positive("factor", context / original)
    attention = parameters.positive("attention_factor", _longrope_magnitude(factor, original))
    return RopeScaling(
        "longrope",
        factor,
        original_max_position_embeddings=original,
        attention_factor=as_float32(attention),
        short_factors=_factors(parameters, "short_factor", dim),
        long_factors=_factors(parameters, "long_factor", dim),
    )


def _longrope_magnitude(factor: float, original: int) -> float:
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def _factors(parameters: Fields, key: str, dim: int) -> tuple[float, ...]:
    numbers = parameters.raw(key)
    if (
        not isinstance(numbers, list)
        or len(numbers) != dim // 2
        or not all(type(n) in (int, float) and 0 < n < 1e6 for n in numbers)
    ):
        raise parameters.error(key, f"must be {dim // 2} numbers above 0.")
    return tuple(as_float32(number) for number in numbers)


def as_float32(number: float) -> float:
    """As GGUF keeps it."""
    return float(np.float32(number))


def gguf_yarn(fields: Fields) -> RopeScaling:
    factor = fields.positive("rope.scaling.factor")
    extra = fields.positive("rope.scaling.attn_factor", 1.0)
    _refuse_other_magnitude(fields, yarn_magnitude(factor))
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=fields.integer(
            "rope.scaling.original_context_length", high=MAX_POSITIONS
        ),
        attention_factor=as_float32(yarn_magnitude(factor) * extra),
        beta_fast=fields.positive("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=fields.positive("rope.scaling.yarn_beta_slow", 1.0),
    )


def _refuse_other_magnitude(fields: Fields, magnitude: float) -> None:
    """llama.cpp's converter writes what config.json has under this key; its versions differ in
    whether they obey it, but most models ask for what YaRN's paper gives."""
    key = "rope.scaling.yarn_attn_factor"
    if not math.isclose(fields.positive(key, magnitude), magnitude, rel_tol=1e-4):
        raise fields.error(key, f"is not supported but as {magnitude:.5g}, by the factor.")


def longrope_from_tables(fields: Fields, file: GGUFFile, dim: int) -> RopeScaling:
    """Phi-3's: both lists of factors are tensors."""
    context = fields.integer("context_length", high=MAX_POSITIONS)
    original = fields.integer("rope.scaling.original_context_length", context, high=MAX_POSITIONS)
    factors = {}
    for kind in ("long", "short"):
        name = f"rope_factors_{kind}.weight"
        problem = fields.error(name, f"must be a tensor of {dim // 2} numbers above 0.")
        if name not in file.tensors:
            raise problem
        table = _table(file, name, dim, problem)
        if not (table > 0).all():
            raise problem
        factors[kind] = tuple(map(float, table))
    factor = context / original
    attention = fields.positive("rope.scaling.attn_factor", _longrope_magnitude(factor, original))
    return RopeScaling(
        "longrope",
        factor,
        original_max_position_embeddings=original,
        attention_factor=as_float32(attention),
        short_factors=factors["short"],
        long_factors=factors["long"],
    )


def divisors(fields: Fields, file: GGUFFile, name: str, dim: int) -> npt.NDArray[np.float32]:
    """By how much each pair's frequency is divided, of a tensor [dim / 2] that must be there."""
    problem = fields.error(name, f"must be a tensor of {dim // 2} numbers.")
    if name not in file.tensors:
        raise problem
    return _table(file, name, dim, problem)


def _table(
    file: GGUFFile, name: str, dim: int, problem: ModelFormatError
) -> npt.NDArray[np.float32]:
    """A vector with a number for each pair of channels."""
    info = file.tensors[name]
    if info.shape != (dim // 2,):
        raise problem
    return dequantize(file.tensor_bytes(info.name), info.type, info.shape)


def llama3_from_table(fields: Fields, file: GGUFFile, theta: float, dim: int) -> RopeScaling:
    """The rule behind the table. All released Llama 3 models share three of its four numbers, Llama
    4 Scout two; the fourth, the factor, is the table's largest entry. A table that this rule does
    not reproduce is refused."""
    unsupported = fields.error("rope_freqs.weight", "is not a table of Llama 3's rope scaling.")
    table = _table(file, "rope_freqs.weight", dim, unsupported)
    factor = float(table.max())
    if not (math.isfinite(factor) and factor >= 1):
        raise unsupported
    for high in HIGH_FREQUENCIES:
        scaling = RopeScaling("llama3", factor, 1.0, high, 8192)
        if np.allclose(table, llama3_divisors(scaling, theta, dim), rtol=1e-4):
            return scaling
    raise unsupported


def llama3_divisors(scaling: RopeScaling, theta: float, dim: int) -> npt.NDArray[np.float64]:
    """By how much each rotary frequency is divided: 1 for short wavelengths, `factor` for long
    ones, and a smooth ramp between. Source: `_compute_llama3_parameters` of transformers. Returns
    [dim / 2]."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    turns = scaling.original_max_position_embeddings / wavelengths
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    with np.errstate(divide="ignore"):  # alike: infinities, which are clipped
        ramp = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - ramp) / scaling.factor + ramp)
