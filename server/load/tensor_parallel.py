"""What a recipe means for several ranks: may there be so many, and what is each one's part.

With one rank nothing here makes a difference.
"""

import logging
import sys
from collections.abc import Callable

import msgspec
import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.engine.cache.kv_budget import kv_budget
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup, start_ranks
from thirdeye.server.engine.execution.cpu_threads import num_threads, one_cpu_a_core, own_cpus
from thirdeye.server.load.engine_recipe import EngineRecipe

logger = logging.getLogger(__name__)


def use_threads(recipe: EngineRecipe) -> None:
    """One a core, within the container's quota, dealt out among the ranks."""
    torch.set_num_threads(
        recipe.placement.threads or max(1, num_threads() // recipe.placement.tensor_parallel)
    )


def pin_threads(recipe: EngineRecipe, where: Placement) -> None:
    """Each of them to a core of its own, where that is asked for. Raises ValueError if it cannot
    be."""
    if not recipe.placement.pin_threads:
        return
    if recipe.placement.tensor_parallel > 1:
        raise ValueError("'--pin-threads' does not go with '--tensor-parallel': leave one out.")
    if where.native is None:
        raise ValueError(
            "'--pin-threads' needs a CPU and our kernels, `thirdeye doctor` says whether they are "
            "there: leave it out."
        )
    count, cpus = torch.get_num_threads(), one_cpu_a_core()
    if count > len(cpus):
        raise ValueError(
            f"'--pin-threads' wants a core for each of {count} threads, here are {len(cpus)}: "
            "lower '--threads'."
        )
    try:
        where.native.pin(cpus[:count])
    except OSError as error:
        raise ValueError(f"'--pin-threads' is not allowed here: {error}; leave it out.") from error
    logger.info("threads are pinned to CPUs %s, but for the first", cpus[:count])


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
