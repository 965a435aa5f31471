"""Quantized tensors that no settings speak of: which method's they are, going by their names."""

from collections.abc import Iterable, Mapping

from thirdeye.weights.formats.safetensors import ShardEntry

SETTINGS = "'quantization_config' of config.json"
WHERE = {  # what a method's settings are written into, by old and new tools
    "GPTQ": f"{SETTINGS}, or quantize_config.json,",
    "AWQ": f"{SETTINGS}, or quant_config.json,",
    "modelopt": f"{SETTINGS}, or hf_quant_config.json,",
}
BY_END = {  # of a tensor's name; the first that some tensor has
    ".g_idx": "GPTQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_2": "modelopt",
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_scale_inv": "FP8 in blocks",
    ".weight_scale": "FP8 or int8 with one scale a row",
    "_blocks": "MXFP4",
    ".biases": "MLX",
}
AWQ_WORD = 8  # numbers that lie side by side along the outputs


def without_settings(entry: ShardEntry, tensors: Mapping[str, ShardEntry]) -> str:
    """A sentence for whoever opens a checkpoint with such a tensor; empty if nothing is known."""
    method = _probable(tensors)
    if entry.is_float or method is None:
        return ""
    if method == "MLX":
        return (
            "It looks like MLX's, which is not supported; what works is an unquantized checkpoint "
            "of the same model, or a GGUF file of it."
        )
    where = WHERE.get(method, SETTINGS)
    return (
        f"It looks quantized ({method}), but {where} is missing: copy it from where the model "
        "comes from."
    )


def _probable(tensors: Mapping[str, ShardEntry]) -> str | None:
    found = next((method for end, method in BY_END.items() if _has(tensors, end)), None)
    if found is not None:
        return found
    for name, qweight in tensors.items():
        scales = tensors.get(f"{name.removesuffix('.qweight')}.scales")
        if name.endswith(".qweight") and scales is not None:
            is_awq = qweight.shape[-1:] == tuple(n // AWQ_WORD for n in scales.shape[-1:])
            return "AWQ" if is_awq else "GPTQ"
    return None


def _has(names: Iterable[str], end: str) -> bool:
    return any(name.endswith(end) for name in names)
