"""How keys and values are kept, by name: `--kv-dtype`."""

import torch

from model.config import ModelConfig
from model.kv_cache import KVCache
from model.kv_fp8 import Fp8KVCache
from model.placement import can_fuse
from model.quant.rounded import FP8

FP8_BACKENDS = ("auto", "triton", "reference")
FP8_CAPABILITY = (8, 9)


def choose_kv_dtype(
    name: str, attention: str, dtype: torch.dtype, device: torch.device
) -> torch.dtype:
    """`auto` is the model's own dtype.

    Raises ValueError for one that this machine, or the attention asked for, does not read.
    """
    if name == "auto":
        return dtype
    assert name == "fp8", name
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


def make_kv_cache(
    config: ModelConfig, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
) -> KVCache:
    """An empty cache whose keys and values are of this dtype."""
    if dtype == FP8:
        return Fp8KVCache(config, num_blocks, block_size, device)
    return KVCache(config, num_blocks, block_size, dtype, device)
