"""What a loaded engine says of itself: the facts of the ready line, and what decides its bits."""

from importlib.metadata import version

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.fast_path import FastPath
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.lora.adapted import Adapted
from thirdeye.model.memory_estimate import bytes_per_state
from thirdeye.model.native.products.int8_linear import Int8LinearKernel
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.types import EngineInfo


def describe_numerics(model: Transformer, where: Placement, kv_dtype: torch.dtype) -> str:
    """What decides the bits of an answer beside weights, dtype and our own code."""
    attention = type(model.backend).__name__
    linear = "+".join(linear_methods(model))
    if where.device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(where.device)))
        machine = f"{torch.cuda.get_device_name(where.device)}, capability {capability}"
    else:
        threads = torch.get_num_threads()
        machine = f"{torch.backends.cpu.get_cpu_capability()}, {threads} threads"
    if kv_dtype != where.dtype:
        linear += f", {str(kv_dtype).removeprefix('torch.')} KV"
    if where.is_deterministic and where.device.type == "cuda":  # on a CPU it changes nothing
        machine += ", deterministic"
    if where.ranks.size > 1:
        machine += f", {where.ranks.size} ranks"
    libraries = f"torch {torch.__version__}, llguidance {version('llguidance')}"
    return f"{libraries}, {attention}, {linear}, {machine}"


def linear_methods(model: Transformer) -> list[str]:
    """How its weights are kept, each way once: the head may be another than the rest. A file's own
    blocks are told by their names there."""
    kept = [m for m in model.modules() if isinstance(m, Linear | TiedLinear)]
    formats = {name for layer in kept for name in stored_formats(layer)}
    others = {method_name(layer) for layer in kept if not stored_formats(layer)}
    return [*([f"NativeStored({', '.join(sorted(formats))})"] if formats else []), *sorted(others)]


def stored_formats(layer: Linear | TiedLinear) -> list[str]:
    """Of the blocks that it multiplies by."""
    kept = getattr(layer, "kept", None)
    return kept.formats if isinstance(kept, StoredLinearKernel) else []


def method_name(layer: Linear | TiedLinear) -> str:
    """Where blocks were hoped for and numbers came, those are rounded."""
    is_rounded = isinstance(getattr(layer, "kept", None), Int8LinearKernel)
    return NativeInt8.__name__ if is_rounded else type(base_method(layer.method)).__name__


def base_method(method: LinearMethod) -> LinearMethod:
    """How a layer's own weights are multiplied, whatever adapters add."""
    return method.base if isinstance(method, Adapted) else method


def describe(
    model: ModelConfig,
    config: EngineConfig,
    where: Placement,
    numerics: str,
    memory: str,
    *fast_paths: FastPath,
) -> EngineInfo:
    """The facts of the ready line."""
    return EngineInfo(
        num_parameters=parameter_counts(model).total,
        max_model_len=config.max_model_len,
        vocab_size=model.vocab_size,
        device=str(where.device),
        dtype=str(where.dtype).removeprefix("torch."),
        num_blocks=config.num_blocks,
        block_size=config.block_size,
        windows=config.windows,
        max_num_seqs=config.max_num_seqs,
        num_states=config.num_states,
        state_bytes=bytes_per_state(model),
        numerics=numerics,
        memory=memory,
        num_ranks=where.ranks.size,
        isa=where.native.isa if where.native else "",
        has_kernels_of_wheel=where.native is not None and where.native.is_of_a_wheel,
        missed_paths=[str(path) for path in fast_paths if path.reason],
    )
