"""How many bytes the KV cache gets: what is left behind a trial on a GPU, a share of what is free
elsewhere. A part of the composition: it makes the trial's engine of the served model itself.
"""

from dataclasses import replace
from functools import partial

import torch

from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.memory_estimate import bytes_per_state
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.cache.device_memory import CudaMemory, DeviceMemory, MemoryUsage
from thirdeye.server.engine.cache.kv_budget import GIB
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.core.profile_run import TriedEngine, profile_memory, trial_config
from thirdeye.server.engine.distributed.leader import ONE_RANK, RankGroup
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.interface.engine_config import (
    BLOCK_SIZE,
    EngineConfig,
    default_batched_tokens,
)
from thirdeye.server.engine.run_ahead.device_loop import LoopSizes
from thirdeye.server.load.drafting.guesser import Guesser
from thirdeye.server.load.drafting.text_guesses import choose_text_guesses, most_decode_rows
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.overlap import SCRAP_BLOCKS, build_launcher, num_state_rows, runs_ahead
from thirdeye.server.load.tensor_parallel import rank_kv_budget


def find_kv_budget(
    recipe: EngineRecipe,
    model: Transformer,
    kv_dtype: torch.dtype,
    device: torch.device,
    rank_group: RankGroup = ONE_RANK,
    guesser: Guesser | None = None,
) -> tuple[int, str]:
    """Bytes for keys and values, of each rank the same, and where the memory goes, in words if it
    was measured. Raises ValueError if what was asked for does not fit.
    """
    if device.type != "cuda":
        return rank_group.min_kv_budget(rank_kv_budget(recipe, model.config, device, kv_dtype)), ""
    usage = try_step(recipe, model, kv_dtype, device, CudaMemory(device), rank_group, guesser)
    size = recipe.placement.tensor_parallel
    return usage.kv, f"of each of {size} GPUs {usage}" if size > 1 else str(usage)


def granted_share(recipe: EngineRecipe) -> float:
    """Of each device; a cache that was asked for must fit the whole of it."""
    return recipe.cache.gpu_memory_utilization if recipe.cache.kv_memory_bytes is None else 1.0


def try_step(
    recipe: EngineRecipe,
    model: Transformer,
    kv_dtype: torch.dtype,
    device: torch.device,
    memory: DeviceMemory,
    rank_group: RankGroup = ONE_RANK,
    guesser: Guesser | None = None,
) -> MemoryUsage:
    """A trial with the served model, on all ranks at once: what the one with the least has left
    is what each of them gets. Beside it is what guesses; its own steps are smaller than its."""
    asked = recipe.cache.kv_memory_bytes
    num_tokens = recipe.scheduling.max_num_batched_tokens
    if num_tokens is None:
        num_tokens = default_batched_tokens(device.type, recipe.scheduling.max_num_seqs)
    context = model.config.max_position_embeddings
    has_states = model.config.state is not None
    is_ahead = is_run_ahead(recipe, model, device)
    most_rows = most_decode_rows(recipe, model.config, num_tokens, is_ahead=is_ahead)
    guesses = choose_text_guesses(recipe, model.config, is_ahead=True).most if is_ahead else 0
    sizes = trial_config(
        num_tokens,
        most_rows,
        BLOCK_SIZE,
        context,
        has_states=has_states,
        windows=kv_groups(model.config).windows,
        steps_ahead=int(is_ahead),
        num_draft_tokens=guesses,
        max_tokens_with_drafts=recipe.speculation.max_tokens_with_drafts,
    )
    make_core = partial(_make_core, recipe, model, kv_dtype, device, rank_group, guesser)
    usage = profile_memory(make_core, sizes, memory, granted_share(recipe))
    shared = shared_bytes(recipe, model, most_rows)
    usage = replace(usage, captured=usage.captured + shared, step=usage.step + shared)
    usage = replace(usage, lost=usage.kv - rank_group.min_kv_budget(usage.kv))
    if asked is None:
        return usage
    if asked > usage.kv:
        raise ValueError(
            f"'--kv-memory' must be at most {usage.kv / GIB:.2f} GiB here, "
            f"got {asked / GIB:.2f} ({usage}): lower it."
        )
    return replace(usage, granted=usage.granted - usage.kv + asked)


def shared_bytes(recipe: EngineRecipe, model: Transformer, most_rows: int) -> int:
    """What attention leaves in memory where several programs share a sequence. The trial's step has
    all rows, so each has a program of its own there: fewer rows and long texts take more."""
    backend, own = model.backend, rank_config(model.config, model.ranks.size)
    if not isinstance(backend, TritonAttention):
        return 0
    longest = recipe.scheduling.max_model_len or model.config.max_position_embeddings
    return max(
        backend.most_shared_bytes(own.num_heads, *shape, most_rows, longest)
        for shape in set(own.kv_shapes)
    )


def is_run_ahead(recipe: EngineRecipe, model: Transformer, device: torch.device) -> bool:
    """Raises ValueError where that was asked for and cannot be."""
    ranks = recipe.placement.tensor_parallel
    return runs_ahead(recipe.kernels.cuda_graphs, device, model.backend, ranks)


def _make_core(
    recipe: EngineRecipe,
    model: Transformer,
    kv_dtype: torch.dtype,
    device: torch.device,
    rank_group: RankGroup,
    guesser: Guesser | None,
    config: EngineConfig,
) -> TriedEngine:
    """An engine as it will be served, but that its graphs are captured later."""
    own = rank_config(model.config, model.ranks.size)
    is_ahead = is_run_ahead(recipe, model, device)
    num_blocks = config.num_blocks + SCRAP_BLOCKS * is_ahead
    num_states = num_state_rows(config.num_states, is_ahead=is_ahead)
    longest = recipe.scheduling.max_model_len or model.config.max_position_embeddings
    rank_group.init_caches(
        num_blocks,
        config.block_size,
        is_trial=True,
        num_states=num_states,
        loop=LoopSizes.of(config, longest) if is_ahead else None,
    )
    groups = kv_groups(own)
    cache = make_kv_cache(own, num_blocks, config.block_size, kv_dtype, device, num_states, groups)
    runner = ModelRunner(rank_group.wrap(model), cache, config, device)
    size = num_blocks * kv_bytes_per_block(own, config.block_size, kv_dtype, groups)
    size += num_states * bytes_per_state(own)
    if not is_ahead:
        return TriedEngine(EngineCore(config, runner), size, lambda: None)
    launcher = build_launcher(
        model, cache, config, device, longest, rank_group, recipe.placement.rank_timeout
    )
    core = EngineCore(config, runner, launcher=launcher)
    if guesser is None:
        return TriedEngine(core, size, launcher.prepare)
    beside = guesser.tried(config, longest)

    def capture() -> None:
        launcher.prepare()
        beside.capture()

    return TriedEngine(core, size + beside.cache, capture)
