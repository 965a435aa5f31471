"""What a recipe means for several ranks: may there be so many, and what is each one's part.

With one rank nothing here makes a difference.
"""

import logging
import sys
from collections.abc import Callable

import msgspec
import torch

from thirdeye.model.config import ModelConfig
from thirdeye.model.memory_estimate import bytes_per_state
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.server.engine.cache.kv_budget import kv_budget
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup, start_ranks
from thirdeye.server.engine.distributed.rank_listener import OnJoined
from thirdeye.server.engine.execution.cpu_threads import num_threads, one_cpu_a_core, own_cpus
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.other_hosts import find_others

logger = logging.getLogger(__name__)


def use_threads(recipe: EngineRecipe, ranks_here: int) -> None:
    """One a core, within the container's quota, dealt out among the ranks of this host."""
    torch.set_num_threads(recipe.placement.threads or max(1, num_threads() // ranks_here))


def ranks_of_leader(recipe: EngineRecipe) -> int:
    """How many of the ranks are on rank 0's host."""
    return recipe.placement.tensor_parallel - recipe.placement.remote_ranks


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


def check_ranks(recipe: EngineRecipe, device: torch.device, ranks_here: int) -> None:
    """Raises ValueError if this machine, or what else was asked for, does not allow the ranks."""
    asked, is_cuda = recipe.placement, device.type == "cuda"
    limit = torch.cuda.device_count() if is_cuda else len(own_cpus())
    if ranks_here > limit:
        remote = " and of remote ranks" * bool(asked.remote_ranks)
        raise ValueError(
            f"'--tensor-parallel' must be at most {limit + asked.remote_ranks}, the number of "
            f"{'GPUs' if is_cuda else 'CPUs'} here{remote}, got {asked.tensor_parallel}."
        )
    if ":" in asked.device:
        raise ValueError(
            f"'--device' {asked.device} is one GPU, '--tensor-parallel' takes the first "
            f"{ranks_here}: use '--device cuda'."
        )


def make_rank_group(
    recipe: EngineRecipe,
    where: Placement,
    fingerprint: Callable[[], str],
    on_joined: OnJoined,
    on_end: Callable[[str], object],
) -> RankGroup:
    """The other ranks, if there are to be any. `fingerprint` is the checkpoint's, wanted if ranks
    of other hosts join; `on_joined` hears how many have. `on_end` ends this process; see
    `RankProcess`."""
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
        others=find_others(recipe, fingerprint, on_joined),
    )


def rank_kv_budget(
    recipe: EngineRecipe, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> int:
    """Bytes of one rank's keys and values: ranks on CPUs share the machine's memory. `config` is
    the whole model's."""
    token = kv_bytes_per_block(config, 1, dtype)
    budget = kv_budget(
        device,
        recipe.cache.kv_memory_bytes,
        recipe.cache.gpu_memory_utilization,
        dtype,
        token,
        bytes_per_state(config),
    )
    is_shared = device.type == "cpu" and recipe.cache.kv_memory_bytes is None
    return budget // recipe.placement.tensor_parallel if is_shared else budget
