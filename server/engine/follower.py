"""A rank that follows: it loads its share, then does what rank 0 says, in that order, until rank 0
is gone.

It never outlives rank 0: a thread sees the end of the socket, also while the others wait in a sum
for somebody who is dead, and on Linux the kernel sees to it as well. Its logits are its share of
the work and not looked at: sampling is rank 0's alone.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import assert_never

import msgspec
import torch

from model.kv_cache import KVCache
from model.kv_choose import make_kv_cache
from model.parallel import rank_config
from model.transformer import Transformer
from server.engine.child import bind_to_parent
from server.engine.frames import FrameReader, pack_frame
from server.engine.inspection import Trace
from server.engine.inspector import Inspector
from server.engine.rank_messages import (
    Arrived,
    Begin,
    Compute,
    Join,
    Loaded,
    Look,
    LookAway,
    LookOn,
    ToRank,
    Unable,
    unpack_batch,
)
from server.engine.types import EngineDead

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of the engine, as the composition root loads it."""

    model: Transformer
    device: torch.device
    kv_dtype: torch.dtype
    kv_budget: int  # bytes

    def make_cache(self, begin: Begin) -> KVCache:
        own = rank_config(self.model.config, self.model.ranks.size)
        return make_kv_cache(own, begin.num_blocks, begin.block_size, self.kv_dtype, self.device)


Load = Callable[[Join], Share]


def serve_rank(sock: socket.socket, load: Load) -> int:
    """The process's main: the exit code. `load` raises `EngineDead` with a text for the operator,
    and any other exception for a bug."""
    sock.set_inheritable(False)
    bind_to_parent()
    frames = FrameReader[ToRank](msgspec.msgpack.Decoder(ToRank))
    inbox: SimpleQueue[ToRank] = SimpleQueue()
    threading.Thread(target=_read, args=(sock, frames, inbox), name="inbox", daemon=True).start()
    sock.sendall(pack_frame(Arrived()))
    join = inbox.get()
    assert isinstance(join, Join), f"unexpected {join!r}"
    try:
        share = load(join)
    except EngineDead as error:
        sock.sendall(pack_frame(Unable(str(error))))
        threading.Event().wait()  # rank 0 tells it, and ends, and the thread above with it
    sock.sendall(pack_frame(Loaded(share.kv_budget)))
    try:
        with torch.inference_mode():
            _follow(share, inbox)
    except Exception:
        logger.exception("rank %d has failed", join.rank)
    return 1


def _read(sock: socket.socket, frames: FrameReader[ToRank], inbox: SimpleQueue[ToRank]) -> None:
    try:
        while True:
            inbox.put(frames.read(sock))
    except (EOFError, ConnectionError):
        os._exit(0)  # rank 0 is gone; the main thread may wait in a sum for it


def _follow(share: Share, inbox: SimpleQueue[ToRank]) -> None:
    begin = inbox.get()
    assert isinstance(begin, Begin), f"unexpected {begin!r}"
    cache = share.make_cache(begin)
    inspect = Inspector(share.model, share.device, begin.max_look_rows)
    looks: dict[str, Iterator[Trace | None]] = {}
    while True:
        match inbox.get():
            case Compute() as step:
                batch = unpack_batch(step, share.device)
                forward = share.model.with_hidden if step.has_hidden else share.model
                forward(batch, cache)
            case Look(request):
                looks[request.request_id] = inspect(request)
            case LookOn(request_id):
                next(looks[request_id])
            case LookAway(request_id):
                del looks[request_id]
            case (Join() | Begin()) as other:
                raise AssertionError(f"unexpected {other!r}")
            case other:
                assert_never(other)
