"""The model that `thirdeye bench engine` times: any shape, random weights, kept and multiplied as
those of a checkpoint are when it is served on the same device.
"""

from dataclasses import replace

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.bench.report import Plan
from thirdeye.server.load.deterministic import check_deterministic
from thirdeye.server.load.load_engine import empty_model
from thirdeye.server.load.native_kernels import compiled_library
from thirdeye.server.load.placement import choose_device, choose_dtype, load_native, use_device

WEIGHT_SCALE = 0.02


def place(plan: Plan) -> Placement:
    """Where the model goes, as when serving; kernels for the CPU are waited for. Raises ValueError
    for what is not there."""
    device = choose_device(plan.device)
    use_device(device)
    dtype = choose_dtype(plan.dtype, device)
    library = compiled_library() if device.type == "cpu" else ""
    native = load_native(library, device, dtype)
    where = Placement(dtype, device, native=native)
    quantize = choose_quantization(plan.quantize, where)
    where = replace(
        where,
        quantize="int8" if quantize == "stored" else quantize,  # no file has these in blocks
        is_deterministic=plan.is_deterministic,
    )
    if plan.is_deterministic:
        check_deterministic(where, plan.attention)
    return where


def default_batches(device: str) -> list[int]:
    """On a CPU none that takes minutes to reach its context."""
    return [1, 8] if choose_device(device).type == "cpu" else [1, 8, 64]


def random_model(config: ModelConfig, attention: str, where: Placement) -> Transformer:
    """Norms multiply by about 1, so that activations keep the size they have in real models."""
    model = empty_model(config, attention, where)
    generator = torch.Generator(where.device).manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.normal_(
            1.0 if name.endswith("norm.weight") else 0.0, WEIGHT_SCALE, generator=generator
        )
    model.finish()
    return model
