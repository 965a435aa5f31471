"""Which method a checkpoint's quantization is, from wherever its settings stand.

They are in config.json as `quantization_config` (once `compression_config`), or in a file of their
own: AutoGPTQ, AutoAWQ and modelopt wrote such.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.quantized.bitsandbytes import read_bitsandbytes
from thirdeye.weights.formats.quantized.compressed_tensors import read_compressed_tensors
from thirdeye.weights.formats.quantized.fp8 import read_fp8
from thirdeye.weights.formats.quantized.modelopt import read_modelopt
from thirdeye.weights.formats.quantized.mxfp4 import read_mxfp4
from thirdeye.weights.formats.quantized.packed.auto_round import read_auto_round
from thirdeye.weights.formats.quantized.packed.awq import read_awq
from thirdeye.weights.formats.quantized.packed.gptq import read_gptq
from thirdeye.weights.formats.quantized.quantized_weight import Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MethodReader:
    read: Callable[[Fields], Method]
    reads: str  # in people's words


METHODS: Mapping[str, MethodReader] = {
    "gptq": MethodReader(
        partial(read_gptq, title="GPTQ"),
        "2, 3, 4 and 8 bits, versions 1 and 2, with activation order, `dynamic`",
    ),
    "awq": MethodReader(read_awq, "4 bits in the GEMM layout"),
    "auto-round": MethodReader(
        read_auto_round, "in GPTQ's and AWQ's layouts, with modules packed each its own way"
    ),
    "compressed-tensors": MethodReader(
        read_compressed_tensors,
        "packed integers (W4A16 and others), int8, fp8, NVFP4, MXFP4, by groups of modules",
    ),
    "fp8": MethodReader(read_fp8, "blocks (DeepSeek, Qwen3), one scale a row, one scale"),
    "fbgemm_fp8": MethodReader(read_fp8, "one scale a row"),
    "modelopt": MethodReader(read_modelopt, "FP8, NVFP4"),
    "mxfp4": MethodReader(read_mxfp4, "blocks and scales of gpt-oss"),
    "bitsandbytes": MethodReader(read_bitsandbytes, "nf4 and fp4, also quantized twice; int8"),
}
OTHERWISE = "an unquantized checkpoint of the same model, or a GGUF file of it"
WAY_OUT = f"What works is {OTHERWISE}."
ROUNDINGS = ("activation_scheme", "kv_cache_scheme", "kv_cache_quant_algo")
KEYS = ("quantization_config", "compression_config")
FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}


def read_method(directory: Directory, config: Fields, text: Fields) -> Method | None:
    """None for a checkpoint that is not quantized. `text`: the settings of its text part, where
    some wholes have it. Raises `ModelFormatError`."""
    _refuse_mlx(config)
    for part in (config, text):
        for key in KEYS:
            if (fields := part.nested(key)) is not None:
                return _named(fields, fields.text("quant_method", _unnamed(fields)))
    for name, method in FILES.items():
        if (fields := directory.fields(name)) is not None:
            return _read(method, fields)
    return None


def _refuse_mlx(config: Fields) -> None:
    """Its settings stand under a key of its own, and name no method."""
    settings = config.nested("quantization")
    if settings is not None and "bits" in settings and "group_size" in settings:
        raise config.error(
            "quantization", f"is MLX's, which is not supported; what works is {OTHERWISE}."
        )


def _unnamed(fields: Fields) -> str:
    """What old versions of transformers wrote without a name."""
    is_theirs = any(fields.raw(f"load_in_{bits}bit", False) is True for bits in (4, 8))
    return "bitsandbytes" if is_theirs else ""


def _named(fields: Fields, name: str) -> Method:
    for key in ROUNDINGS:
        if key in fields:
            logger.info(
                "%s: '%s' is not applied: activations and cached keys keep the model's precision",
                fields.path,
                fields.prefix + key,
            )
    if name not in METHODS:
        raise fields.error(
            "quant_method",
            f"'{name:.60}' is not supported; supported are {', '.join(METHODS)}. {WAY_OUT}",
        )
    return _read(name, fields)


def _read(name: str, fields: Fields) -> Method:
    try:
        return METHODS[name].read(fields)
    except ModelFormatError as error:
        raise error.and_say(WAY_OUT) from None
