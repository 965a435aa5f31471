"""How many bytes the KV cache gets: what is left behind a trial on a GPU, a share of what is free
elsewhere. A part of the composition: it makes the trial's engine of the served model itself.
"""

from dataclasses import replace
from functools import partial

import torch

from model.kv_choose import make_kv_cache
from model.transformer import Transformer
from server.engine.config import EngineConfig, default_batched_tokens
from server.engine.core import EngineCore
from server.engine.memory import GIB
from server.engine.runner import ModelRunner
from server.engine.trial import CudaMemory, Memory, Usage, measure, trial_config
from server.ranks import rank_kv_budget
from server.recipe import EngineRecipe


def find_room(
    recipe: EngineRecipe, model: Transformer, kv_dtype: torch.dtype, device: torch.device
) -> tuple[int, str]:
    """Bytes for keys and values, and where the memory goes, in words if it was measured.

    Several ranks do without a trial: it would be a step of all of them. Raises ValueError if what
    was asked for does not fit.
    """
    if device.type != "cuda" or recipe.tensor_parallel > 1:
        return rank_kv_budget(recipe, model.config, device, kv_dtype), ""
    usage = try_step(recipe, model, kv_dtype, device, CudaMemory(device))
    return usage.kv, str(usage)


def try_step(
    recipe: EngineRecipe,
    model: Transformer,
    kv_dtype: torch.dtype,
    device: torch.device,
    memory: Memory,
) -> Usage:
    """A trial with the served model; a cache that was asked for must fit the whole device."""
    asked = recipe.kv_memory_bytes
    share = recipe.gpu_memory_utilization if asked is None else 1.0
    num_tokens = recipe.max_num_batched_tokens
    if num_tokens is None:
        num_tokens = default_batched_tokens(device.type, recipe.max_num_seqs)
    context = model.config.max_position_embeddings
    sizes = trial_config(num_tokens, recipe.max_num_seqs, recipe.block_size, context)
    usage = measure(partial(_make_core, model, kv_dtype, device), sizes, memory, share)
    if asked is None:
        return usage
    if asked > usage.kv:
        raise ValueError(
            f"'--kv-memory' must be at most {usage.kv / GIB:.2f} GiB here, "
            f"got {asked / GIB:.2f} ({usage}): lower it."
        )
    return replace(usage, granted=usage.granted - usage.kv + asked)


def _make_core(
    model: Transformer, kv_dtype: torch.dtype, device: torch.device, config: EngineConfig
) -> EngineCore:
    cache = make_kv_cache(model.config, config.num_blocks, config.block_size, kv_dtype, device)
    return EngineCore(config, ModelRunner(model, cache, config, device))
