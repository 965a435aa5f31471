"""How keys and values are kept, by name: `--kv-dtype`."""

import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.placement import can_fuse
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_fp8 import Fp8KVCache
from thirdeye.model.state.kv_groups import KVGroups
from thirdeye.model.state.kv_int8 import Int8KVCache

FP8_BACKENDS = ("auto", "triton", "reference")
FP8_CAPABILITY = (8, 9)
FP16_BACKENDS = ("auto", "native", "blocked")
INT8_BACKENDS = (*FP16_BACKENDS, "reference")


def choose_kv_dtype(
    name: str, attention: str, dtype: torch.dtype, device: torch.device, quantize: str = "none"
) -> torch.dtype:
    """`auto` is the model's own dtype, and float16 on a CPU whose weights are rounded anyway.

    Raises ValueError for one that this machine, or the attention asked for, does not read.
    """
    can_halve = device.type == "cpu" and dtype == torch.float32 and attention in FP16_BACKENDS
    if name == "auto":
        return torch.float16 if can_halve and quantize != "none" else dtype
    if name == str(dtype).removeprefix("torch."):
        return dtype
    if name == "float16" and can_halve:
        return torch.float16
    if name == "int8":
        check_int8(attention, dtype, device)
        return torch.int8
    if name != "fp8":
        raise ValueError(
            f"'--kv-dtype' {name} needs '--dtype' {name}, or for float16 a CPU, '--dtype' float32 "
            f"and '--attention' native or blocked, got {device}, {dtype} and '{attention}': "
            "use 'auto'."
        )
    if attention not in FP8_BACKENDS:
        raise ValueError(
            f"'--kv-dtype' fp8 is read by '--attention' triton alone, got '{attention}'."
        )
    if not can_fuse(device):
        raise ValueError("'--kv-dtype' fp8 needs a GPU and the package triton: use 'auto'.")
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < FP8_CAPABILITY:
        raise ValueError(
            f"'--kv-dtype' fp8 needs compute capability 8.9, this GPU has {major}.{minor}: "
            "use 'auto'."
        )
    return FP8


def check_int8(attention: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError where nobody reads it."""
    if attention not in INT8_BACKENDS:
        raise ValueError(
            f"'--kv-dtype' int8 is read by '--attention' {', '.join(INT8_BACKENDS[1:])}, "
            f"got '{attention}': use 'auto' for one of them."
        )
    if device.type != "cpu" or dtype != torch.float32:
        raise ValueError(
            f"'--kv-dtype' int8 needs a CPU and '--dtype' float32, got {device} and {dtype}: use "
            "'auto', or on a GPU 'fp8'."
        )


def make_kv_cache(
    config: ModelConfig,
    num_blocks: int,
    block_size: int,
    dtype: torch.dtype,
    device: torch.device,
    num_states: int = 0,
    groups: KVGroups | None = None,
) -> KVCache:
    """An empty cache whose keys and values are of this dtype, with so many rows of states.

    `groups`: None for one, of all layers."""
    if dtype == FP8:
        return Fp8KVCache(config, num_blocks, block_size, device, num_states, groups)
    if dtype == torch.int8:
        return Int8KVCache(config, num_blocks, block_size, device, num_states, groups)
    return KVCache(config, num_blocks, block_size, dtype, device, num_states, groups)
