"""A rank that follows: it loads its share, then does what rank 0 says, in that order, until rank 0
is gone.

It never outlives rank 0: a thread sees the end of the socket, also while the others wait in a sum
for somebody who is dead, and on Linux the kernel sees to it as well. Its logits are its share of
the work and not looked at: sampling is rank 0's alone. Unless steps are launched ahead: then it has
a loop of its own, which samples as rank 0's does.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import assert_never

import msgspec
import torch

from thirdeye.model.lora.adapter_table import AdapterTable
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.core.profile_run import STEP_TOO_LARGE, KVBudget
from thirdeye.server.engine.distributed.distributed_loop import StepWatch, follow
from thirdeye.server.engine.distributed.loop_messages import (
    BeginDecode,
    BeginPrefill,
    Captured,
    LoopMessage,
    Prepare,
    ReplayDecode,
    SampleDecoded,
    SamplePrefill,
)
from thirdeye.server.engine.distributed.rank_link import SILENCE, Heartbeat, RankLink
from thirdeye.server.engine.distributed.rank_messages import (
    FAILURE_GRACE,
    Compute,
    ContinueInspection,
    DropAdapter,
    EndInspection,
    Failed,
    FromRank,
    InitCache,
    Join,
    Loaded,
    Loading,
    Measure,
    Measured,
    PutAdapter,
    Started,
    StartInspection,
    ToRank,
    unpack_adapter,
    unpack_batch,
)
from thirdeye.server.engine.inspection.inspection_queue import Inspect
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface.trace import Trace
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.run_ahead.cuda_graphs import Capture, choose_capture
from thirdeye.server.engine.run_ahead.device_loop import DeviceLoop, LoopSizes
from thirdeye.server.garbage_collection import freeze_heap

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RankModel:
    """One rank's share of the model, as the composition root loads it."""

    model: Transformer
    device: torch.device
    kv_dtype: torch.dtype
    kv_budget: KVBudget
    timeout: float = 60.0  # seconds that its device may take for a step
    make_capture: Callable[[torch.device], Capture] = choose_capture

    def make_cache(self, sizes: InitCache) -> KVCache:
        own = rank_config(self.model.config, self.model.ranks.size)
        return make_kv_cache(
            own,
            sizes.num_blocks,
            sizes.block_size,
            self.kv_dtype,
            self.device,
            sizes.num_states,
            kv_groups(own),
        )

    def make_loop(self, cache: KVCache, sizes: LoopSizes) -> DeviceLoop:
        """As rank 0 makes its own."""
        return DeviceLoop(
            lambda batch: self.model.logits_as_computed(batch, cache),
            sizes,
            self.model.config.vocab_size,
            self.device,
            self.make_capture(self.device),
            self.model.look_up(),
        )

    def make_watch(self) -> StepWatch:
        make_event = torch.cuda.Event if self.device.type == "cuda" else None
        return StepWatch(make_event, self.timeout)


Load = Callable[[Join, Callable[[], None]], RankModel]


def serve_rank(sock: socket.socket, load: Load, *, is_remote: bool = False) -> int:
    """The process's main: the exit code. `load` says now and then that it lives. It raises
    `EngineDead` with a text for the operator, and any other exception for a bug."""
    sock.set_inheritable(False)
    link = RankLink(sock, msgspec.msgpack.Decoder(ToRank), is_remote=is_remote)
    inbox: SimpleQueue[ToRank] = SimpleQueue()
    threading.Thread(target=_read, args=(link, inbox), name="inbox", daemon=True).start()
    try:
        link.send(Started())
    except ConnectionError:
        return 0  # rank 0 did not wait
    join = inbox.get()
    assert isinstance(join, Join), f"unexpected {join!r}"
    try:
        rank_model = load(join, lambda: link.send(Loading()))
        freeze_heap()
        link.send(Loaded())
        worker = RankWorker(rank_model, link.send)
        with torch.inference_mode():
            while True:
                worker.handle(inbox.get())
    except EngineDead as error:
        link.send(Failed(str(error)))
    except Exception as error:
        logger.exception("rank %d has failed", join.rank)
        time.sleep(FAILURE_GRACE)  # if another rank is why, rank 0 knows by now, and has ended this
        link.send(Failed(f"it has failed ({type(error).__name__}), see its log."))
    return 1


def _read(link: RankLink[ToRank], inbox: SimpleQueue[ToRank]) -> None:
    try:
        while True:
            inbox.put(link.receive())
    except ConnectionError:
        os._exit(0)  # rank 0 is gone; the main thread may wait in a sum for it
    except TimeoutError:
        logger.error("rank 0 has been silent for %g seconds: this rank ends", SILENCE)
        os._exit(1)


class RankWorker:
    """Does what it is told, message by message: its share of the model, a cache, looks inside."""

    def __init__(self, rank_model: RankModel, send: Callable[[FromRank], object]) -> None:
        self._rank_model, self._send = rank_model, send
        self._cache: KVCache | None = None
        self._loop: DeviceLoop | None = None
        self._watch = rank_model.make_watch()
        self._is_trial = False
        self._inspect: Inspect | None = None
        self._inspections: dict[str, Iterator[Trace | None]] = {}

    def handle(self, message: ToRank) -> None:
        """Raises what a step raises: then nothing can go on."""
        match message:
            case InitCache():
                self._init_cache(message)
            case Measure():
                self._send(Measured(self._rank_model.kv_budget.num_bytes()))
            case Compute():
                self._compute(message)
            case (
                Prepare()
                | ReplayDecode()
                | BeginDecode()
                | SampleDecoded()
                | BeginPrefill()
                | SamplePrefill()
            ):
                self._follow(message)
            case PutAdapter(number):
                self._adapters.load(number, unpack_adapter(message))
            case DropAdapter(number):
                self._adapters.unload(number)
            case StartInspection(request):
                assert self._inspect is not None
                self._inspections[request.request_id] = self._inspect(request)
            case ContinueInspection(request_id):
                next(self._inspections[request_id])
            case EndInspection(request_id):
                del self._inspections[request_id]
            case Join() | Heartbeat():
                raise AssertionError(f"unexpected {message!r}")
            case _:
                assert_never(message)

    @property
    def _adapters(self) -> AdapterTable:
        table = self._rank_model.model.adapters
        assert table is not None, "there is no room for adapters"
        return table

    def _init_cache(self, sizes: InitCache) -> None:
        self._cache = self._loop = None  # a trial's make room first
        own = self._rank_model
        self._cache, self._is_trial = own.make_cache(sizes), sizes.is_trial
        self._inspect = LayerInspector(
            own.model, own.device, sizes.max_inspection_rows, own.kv_dtype
        )
        if sizes.is_trial:
            own.kv_budget.start_trial()
        if sizes.loop is not None:
            self._loop = own.make_loop(self._cache, sizes.loop)

    def _compute(self, step: Compute) -> None:
        model, cache = self._rank_model.model, self._cache
        assert cache is not None
        forward = model.with_hidden if step.has_hidden else model
        with self._naming_a_trial():
            forward(unpack_batch(step, self._rank_model.device), cache)

    def _follow(self, message: LoopMessage) -> None:
        assert self._loop is not None, "no step is launched ahead"
        if self._is_trial and isinstance(message, Prepare):
            self._rank_model.kv_budget.start_captures()
        with self._naming_a_trial():
            follow(self._loop, message, self._rank_model.device)
        self._watch.launched()
        if isinstance(message, Prepare):
            self._send(Captured(self._loop.graphs.captured))

    @contextmanager
    def _naming_a_trial(self) -> Iterator[None]:
        """What the largest step does not find room for is the operator's to mend."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            if self._is_trial:
                raise EngineDead(f"{STEP_TOO_LARGE} ({error})") from error
            raise
