"""What a recipe means for several ranks: may there be so many, and what is each one's part.

With one rank nothing here makes a difference.
"""

import sys
from collections.abc import Callable

import msgspec
import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.engine.cache.kv_budget import kv_budget
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup, start_ranks
from thirdeye.server.engine.execution.cpu_threads import num_threads, own_cpus
from thirdeye.server.load.engine_recipe import EngineRecipe


def use_threads(recipe: EngineRecipe) -> None:
    """One a core, within the container's quota, dealt out among the ranks."""
    torch.set_num_threads(
        recipe.placement.threads or max(1, num_threads() // recipe.placement.tensor_parallel)
    )


def check_ranks(recipe: EngineRecipe, device: torch.device) -> None:
    """Raises ValueError if this machine, or what else was asked for, does not allow the ranks."""
    size, is_cuda = recipe.placement.tensor_parallel, device.type == "cuda"
    limit = torch.cuda.device_count() if is_cuda else len(own_cpus())
    if size > limit:
        raise ValueError(
            f"'--tensor-parallel' must be at most {limit}, the number of "
            f"{'GPUs' if is_cuda else 'CPUs'} here, got {size}."
        )
    if ":" in recipe.placement.device:
        raise ValueError(
            f"'--device' {recipe.placement.device} is one GPU, '--tensor-parallel' takes the first "
            f"{size}: use '--device cuda'."
        )


def make_rank_group(
    recipe: EngineRecipe, where: Placement, on_end: Callable[[str], object]
) -> RankGroup:
    """The other ranks, if there are to be any. `on_end` ends this process; see `RankProcess`."""
    if recipe.placement.tensor_parallel == 1:
        return ONE_RANK
    return start_ranks(
        [sys.executable, "-P", "-m", "thirdeye.server.load.rank_main"],
        msgspec.msgpack.encode(recipe),
        recipe.placement.tensor_parallel,
        where.device,
        timeout=recipe.placement.rank_timeout,
        is_deterministic=recipe.placement.deterministic,
        on_end=on_end,
    )


def rank_kv_budget(
    recipe: EngineRecipe, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> int:
    """Bytes of one rank's keys and values: ranks on CPUs share the machine's memory. `config` is
    the whole model's."""
    token = kv_bytes_per_block(config, 1, dtype)
    budget = kv_budget(
        device, recipe.cache.kv_memory_bytes, recipe.cache.gpu_memory_utilization, dtype, token
    )
    is_shared = device.type == "cpu" and recipe.cache.kv_memory_bytes is None
    return budget // recipe.placement.tensor_parallel if is_shared else budget
