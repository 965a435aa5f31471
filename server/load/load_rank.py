"""A further rank's side of the composition root: the recipe becomes its share of the model.

Its `main` is run by `server/load/rank_main.py`; rank 0 is at the other end of the socket. It loads
as `server/load/load_engine.py` does, less the scheduler, the grammars and the sampler, which are
rank 0's alone.
"""

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import torch

from thirdeye.model.parallel.ranks import Meeting, RemoteMeeting, join
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
from thirdeye.server.load.native_kernels import native_library
from thirdeye.server.load.placement import place, place_kv
from thirdeye.server.load.tensor_parallel import rank_kv_budget, ranks_of_leader, use_threads
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Of a rank that joined from another host: what is not as on rank 0's."""

    model_path: str
    address: str  # of this host, as rank 0's reaches it
    leader: str  # rank 0's address

    @classmethod
    def of(cls, sock: socket.socket, model_path: str) -> Self:
        return cls(model_path, sock.getsockname()[0], sock.getpeername()[0])

    def adapt(self, recipe: EngineRecipe) -> EngineRecipe:
        """The same engine, from the files of this host."""
        library = native_library(recipe.kernels, recipe.placement.device)
        return msgspec.structs.replace(recipe, model_path=self.model_path, native_library=library)


def load_rank_model(
    order: Join, report_alive: Callable[[], None], own_host: OwnHost | None = None
) -> RankModel:
    """Meet the others, then load this rank's slices. Raises as `load_engine` does."""
    recipe = msgspec.msgpack.decode(order.recipe, type=EngineRecipe)
    logs.configure(recipe.log_level, recipe.log_format)
    if own_host is None:
        place_here, ranks_here = order.rank, ranks_of_leader(recipe)
    else:
        recipe, place_here, ranks_here = own_host.adapt(recipe), 0, 1
    use_threads(recipe, ranks_here)
    where = place(recipe, place_here, ranks_here)
    checkpoint = open_checkpoint(Path(recipe.model_path))
    meeting = find_meeting(order, recipe, own_host)
    ranks = join(meeting, where.device, is_deterministic=recipe.placement.deterministic)
    where = replace(where, ranks=ranks)
    model = load_model(
        checkpoint,
        recipe.kernels.attention,
        where,
        lambda *_: report_alive(),
        recipe.scheduling.max_model_len,
        recipe.max_adapters,
    )
    kv_dtype = place_kv(recipe, where)
    kv_budget = make_kv_budget(recipe, model, kv_dtype, where.device)
    timeout = recipe.placement.rank_timeout
    return RankModel(model, where.device, kv_dtype, kv_budget, timeout)


def find_meeting(
    order: Join, recipe: EngineRecipe, own_host: OwnHost | None
) -> Meeting | RemoteMeeting:
    """The file, or the port, that rank 0 named."""
    size, timeout = recipe.placement.tensor_parallel, recipe.placement.rank_timeout
    if not order.meeting_port:
        return Meeting(Path(order.meeting_path), order.rank, size, timeout)
    leader = own_host.leader if own_host else order.meeting_host
    address = own_host.address if own_host else order.meeting_host
    return RemoteMeeting(leader, order.meeting_port, address, order.rank, size, timeout)


def make_kv_budget(
    recipe: EngineRecipe, model: Transformer, kv_dtype: torch.dtype, device: torch.device
) -> KVBudget:
    """As `find_kv_budget` does on rank 0; the weights are loaded."""
    if device.type != "cuda":
        return FixedKVBudget(rank_kv_budget(recipe, model.config, device, kv_dtype))
    return MeasuredKVBudget(CudaMemory(device), granted_share(recipe))


def load(
    order: Join, report_alive: Callable[[], None], own_host: OwnHost | None = None
) -> RankModel:
    """What the operator can mend is told in words."""
    try:
        return load_rank_model(order, report_alive, own_host)
    except (ValueError, OSError, ModelError) as error:
        raise EngineDead(str(error)) from error


def main() -> int:
    """With a model's path before the socket's number: rank 0 is on another host."""
    sock = socket.socket(fileno=int(sys.argv[-1]))
    own_host = OwnHost.of(sock, sys.argv[-2]) if len(sys.argv) > 2 else None
    return serve_rank(sock, partial(load, own_host=own_host), is_remote=own_host is not None)
