"""A further rank's side of the composition root: the recipe becomes its share of the model.

Its `main` is run by `server/load/rank_main.py`; rank 0 is at the other end of the socket. It loads
as `server/load/load_engine.py` does, less the scheduler, the grammars and the sampler, which are
rank 0's alone.
"""

import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from thirdeye.model.parallel.ranks import Meeting, join
from thirdeye.model.transformer import Transformer
from thirdeye.server import logs
from thirdeye.server.engine.cache.device_memory import CudaMemory
from thirdeye.server.engine.core.profile_run import FixedKVBudget, KVBudget, MeasuredKVBudget
from thirdeye.server.engine.distributed.rank_messages import Join
from thirdeye.server.engine.distributed.rank_worker import RankModel, serve_rank
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.kv_memory import granted_share
from thirdeye.server.load.load_engine import load_model
from thirdeye.server.load.placement import place, place_kv
from thirdeye.server.load.tensor_parallel import rank_kv_budget, use_threads
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError


def load_rank_model(order: Join, report_alive: Callable[[], None]) -> RankModel:
    """Meet the others, then load this rank's slices. Raises as `load_engine` does."""
    recipe = msgspec.msgpack.decode(order.recipe, type=EngineRecipe)
    logs.configure(recipe.log_level, recipe.log_format)
    use_threads(recipe)
    where = place(recipe, order.rank)
    checkpoint = open_checkpoint(Path(recipe.model_path))
    size = recipe.placement.tensor_parallel
    meeting = Meeting(Path(order.meeting_path), order.rank, size, recipe.placement.rank_timeout)
    ranks = join(meeting, where.device, is_deterministic=recipe.placement.deterministic)
    where = replace(where, ranks=ranks)
    model = load_model(
        checkpoint,
        recipe.kernels.attention,
        where,
        lambda *_: report_alive(),
        recipe.scheduling.max_model_len,
    )
    kv_dtype = place_kv(recipe, where)
    kv_budget = make_kv_budget(recipe, model, kv_dtype, where.device)
    return RankModel(model, where.device, kv_dtype, kv_budget)


def make_kv_budget(
    recipe: EngineRecipe, model: Transformer, kv_dtype: torch.dtype, device: torch.device
) -> KVBudget:
    """As `find_kv_budget` does on rank 0; the weights are loaded."""
    if device.type != "cuda":
        return FixedKVBudget(rank_kv_budget(recipe, model.config, device, kv_dtype))
    return MeasuredKVBudget(CudaMemory(device), granted_share(recipe))


def load(order: Join, report_alive: Callable[[], None]) -> RankModel:
    """What the operator can mend is told in words."""
    try:
        return load_rank_model(order, report_alive)
    except (ValueError, OSError, ModelError) as error:
        raise EngineDead(str(error)) from error


def main() -> int:
    return serve_rank(socket.socket(fileno=int(sys.argv[-1])), load)
