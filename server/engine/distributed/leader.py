"""Rank 0's side of tensor parallelism: the other ranks' processes, and what they are told.

Each is a fresh interpreter at the end of a socket: a child of this process, or one of another host
that joined. What rank 0 computes with its share of the model, the others are told first, in the
same order: `wrap` does that to the model. The ranks live and die together. If one ends, rank 0 ends
at once, even in the middle of a step; if rank 0 ends, the others see the end of their sockets. So
there is one death to look after, the engine's, and its supervisor does. Where ranks wait for each
other they do so for a limited time.
"""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.declare.lora import LoraFactors
from thirdeye.model.lora.adapter_table import AdapterTable, PreparedAdapter
from thirdeye.model.parallel.ranks import Meeting, RemoteMeeting, join
from thirdeye.model.parallel.shares import ALONE, Ranks
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.distributed.distributed_loop import DistributedLoop
from thirdeye.server.engine.distributed.loop_messages import Captured
from thirdeye.server.engine.distributed.rank_listener import OtherHosts, let_ranks_in
from thirdeye.server.engine.distributed.rank_messages import (
    FAILURE_GRACE,
    ContinueInspection,
    DropAdapter,
    EndInspection,
    InitCache,
    Join,
    Loaded,
    Measure,
    Measured,
    Started,
    StartInspection,
    ToRank,
    pack_adapter,
    pack_batch,
)
from thirdeye.server.engine.distributed.rank_process import RANKS_FAILED, RankProcess
from thirdeye.server.engine.inspection.inspection_queue import Inspect
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.frames import pack_frame
from thirdeye.server.engine.run_ahead.device_loop import DeviceLoop, LoopSizes, StepLoop

logger = logging.getLogger(__name__)

T = TypeVar("T")
LOAD_TIMEOUT = 60.0  # seconds without a sign of life from a rank that starts or loads


class RankGroup:
    """The other ranks, none by default: then everything is as with one process."""

    def __init__(self, processes: Sequence[RankProcess] = (), ranks: Ranks = ALONE) -> None:
        self._processes = processes
        self.ranks = ranks

    @property
    def is_alone(self) -> bool:
        return not self._processes

    def wait_loaded(self) -> None:
        """Until all have their weights. `EngineDead` if one cannot."""
        for process in self._processes:
            process.expect(Loaded)

    def min_kv_budget(self, kv_budget: int) -> int:
        """What the rank with the least room has for keys and values, in bytes."""
        self.broadcast(Measure())
        return min(
            [kv_budget, *(process.expect(Measured).kv_budget for process in self._processes)]
        )

    def init_caches(
        self,
        num_blocks: int,
        block_size: int,
        max_inspection_rows: int = 1,
        *,
        is_trial: bool = False,
        num_states: int = 0,
        loop: LoopSizes | None = None,
    ) -> None:
        """Caches of so many blocks and states; those of a trial before are given back. `loop`: of
        an engine that runs ahead, whose caches have its scrap."""
        self.broadcast(
            InitCache(num_blocks, block_size, max_inspection_rows, is_trial, num_states, loop)
        )

    def share_loop(self, own: DeviceLoop, device: torch.device) -> StepLoop:
        """Rank 0's loop as the launcher has it."""
        return DistributedLoop(self, own, device) if self._processes else own

    def compare_captures(self, own: list[str]) -> None:
        """`EngineDead` if another rank has captured others than rank 0, or in another order: sums
        in their graphs would wait for each other for ever."""
        for rank, process in enumerate(self._processes, 1):
            if process.expect(Captured).steps != own:
                raise EngineDead(
                    f"Rank {rank} has captured other steps than rank 0, or in another order: is it "
                    "of the same version? Without '--cuda-graphs on' nothing is captured."
                )

    def compute(self, work: Callable[[], T]) -> T:
        """Do rank 0's share of what the others were told."""
        with ending_the_engine():
            return work()

    def broadcast(self, message: ToRank) -> None:
        """All ranks hear the same, in the same order."""
        frame = pack_frame(message)
        for process in self._processes:
            process.send(frame)

    def wrap(self, model: Transformer) -> "DistributedModel | Transformer":
        """The model as the runner calls it."""
        return DistributedModel(self, model) if self._processes else model

    def wrap_adapters(self, table: AdapterTable | None) -> "DistributedAdapters | None":
        """The model's adapters as they are loaded and unloaded, on all ranks alike."""
        return None if table is None else DistributedAdapters(self, table)

    def wrap_inspector(self, inspect: Inspect) -> Inspect:
        return DistributedInspector(self, inspect) if self._processes else inspect


ONE_RANK = RankGroup()


class DistributedModel:
    """Rank 0's share of a model; called, it has the other ranks compute theirs."""

    def __init__(self, rank_group: RankGroup, model: Transformer) -> None:
        self._rank_group, self._model = rank_group, model

    def __call__(self, batch: ForwardBatch, kv_cache: KVCache, /) -> Tensor:
        self._rank_group.broadcast(pack_batch(batch, has_hidden=False))
        with ending_the_engine():
            logits: Tensor = self._model(batch, kv_cache)
        return logits

    def with_hidden(self, batch: ForwardBatch, kv_cache: KVCache, /) -> tuple[Tensor, Tensor]:
        self._rank_group.broadcast(pack_batch(batch, has_hidden=True))
        with ending_the_engine():
            return self._model.with_hidden(batch, kv_cache)


class DistributedAdapters:
    """What is loaded on rank 0 is loaded by the others, in the same order beside their steps."""

    def __init__(self, rank_group: RankGroup, table: AdapterTable) -> None:
        self._rank_group, self._table = rank_group, table

    def prepare(self, factors: Sequence[LoraFactors]) -> "PreparedForRanks":
        is_alone = self._rank_group.is_alone
        return PreparedForRanks(self._table.prepare(factors), () if is_alone else factors)

    def install(self, adapter: int, prepared: "PreparedForRanks") -> None:
        """Raises ValueError if there is no slot left."""
        self._table.install(adapter, prepared.own)
        if prepared.factors:
            self._rank_group.broadcast(pack_adapter(adapter, prepared.factors))

    def unload(self, adapter: int) -> None:
        self._table.unload(adapter)
        self._rank_group.broadcast(DropAdapter(adapter))

    @property
    def slots(self) -> Mapping[int, int]:
        return self._table.slots

    @property
    def num_bytes(self) -> int:
        return self._table.num_bytes


class PreparedForRanks(NamedTuple):
    """Rank 0's share, and what the others take theirs of; nothing where there are none."""

    own: PreparedAdapter
    factors: Sequence[LoraFactors]


class DistributedInspector:
    """Looks inside on all ranks, piece by piece: a head's pattern is on one of them alone."""

    def __init__(self, rank_group: RankGroup, inspect: Inspect) -> None:
        self._rank_group, self._inspect = rank_group, inspect

    def __call__(self, request: TraceRequest) -> Iterator[Trace | None]:
        pieces = self._inspect(request)
        self._rank_group.broadcast(StartInspection(request))
        try:
            while True:
                self._rank_group.broadcast(ContinueInspection(request.request_id))
                with ending_the_engine():
                    piece = next(pieces)
                yield piece
        finally:
            self._rank_group.broadcast(EndInspection(request.request_id))


@contextlib.contextmanager
def ending_the_engine() -> Iterator[None]:
    """A step that failed on one rank leaves the others in the middle of it: nothing can go on."""
    try:
        yield
    except torch.AcceleratorError:
        raise
    except Exception as error:
        logger.exception("a step on several ranks failed")
        time.sleep(FAILURE_GRACE)  # if another rank is why, it ends this process, and says so
        raise EngineDead(RANKS_FAILED) from error


def start_ranks(
    argv: Sequence[str],
    recipe: bytes,
    size: int,
    device: torch.device,
    *,
    timeout: float,
    is_deterministic: bool,
    on_end: Callable[[str], object],
    others: OtherHosts | None = None,
) -> RankGroup:
    """Start the other ranks of this host, let those of others in, and meet them all; later they
    wait `timeout` seconds for each other. `EngineDead` if they do not come together in time.

    The file they meet in lies in a directory of this user alone, and is gone afterwards. With ranks
    of `others` it is a port instead, of the address where they join.
    """
    directory = tempfile.mkdtemp(prefix="thirdeye-ranks-")
    path = Path(directory) / "meeting"

    def end(why: str) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        on_end(why)

    num_here = size - (others.count if others else 0)
    try:
        processes = [
            RankProcess.start(rank, argv, LOAD_TIMEOUT, end) for rank in range(1, num_here)
        ]
        meeting: Meeting | RemoteMeeting = Meeting(path, 0, size, timeout)
        if others is not None:
            processes += let_in(others, num_here, end)
            meeting = open_meeting(others.address.host, size, timeout)
        for process in processes:
            process.expect(Started)
        for rank, process in enumerate(processes, 1):
            process.send(pack_frame(invitation(recipe, rank, meeting)))
        ranks = join(meeting, device, is_deterministic=is_deterministic)
        return RankGroup(processes, ranks)
    except RuntimeError as error:
        raise EngineDead(f"{RANKS_FAILED} ({error})") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def let_in(
    others: OtherHosts, first_rank: int, on_end: Callable[[str], object]
) -> list[RankProcess]:
    """The ranks of other hosts, numbered as they come."""
    came = let_ranks_in(others)
    return [
        RankProcess(
            rank,
            joined.sock,
            LOAD_TIMEOUT,
            on_end,
            how_it_ended=partial("on {} has gone away".format, joined.host),
            is_remote=True,
        )
        for rank, joined in enumerate(came, first_rank)
    ]


def invitation(recipe: bytes, rank: int, meeting: Meeting | RemoteMeeting) -> Join:
    if isinstance(meeting, RemoteMeeting):
        return Join(recipe, rank, meeting_host=meeting.address, meeting_port=meeting.port)
    return Join(recipe, rank, meeting_path=str(meeting.path))


def open_meeting(host: str, size: int, timeout: float) -> RemoteMeeting:
    """A port of this host for ranks to meet at, bound by the time that they are told of it."""
    listener = socket.create_server((host, 0))
    address, port = listener.getsockname()
    return RemoteMeeting(host, port, address, 0, size, timeout, listener)


def end_process(why: str) -> Any:
    """What rank 0 does, unless it has somebody to tell, when another rank is gone: it may be
    waiting for it for ever."""
    logger.error("the engine ends: %s", why)
    os._exit(1)
