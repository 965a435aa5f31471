"""Rank 0's side of tensor parallelism: the other ranks' processes, and what they are told.

Each is a fresh interpreter at the end of a socket. What rank 0 computes with its share of the
model, the others are told first, in the same order: `lead` wraps whatever does so. The ranks live
and die together. If one ends, rank 0 ends at once, even in the middle of a step; if rank 0 ends,
the others see the end of their sockets. So there is one death to look after, the engine's, and its
supervisor does.
"""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from model.batch import ForwardBatch
from model.kv_cache import KVCache
from model.parallel import ALONE, Ranks
from model.ranks import Meeting, join
from model.transformer import Transformer
from server.engine.frames import FrameReader, pack_frame
from server.engine.inspection import InspectRequest, Trace
from server.engine.inspector import Inspect
from server.engine.rank_messages import (
    Arrived,
    Begin,
    FromRank,
    Join,
    Loaded,
    Look,
    LookAway,
    LookOn,
    ToRank,
    Unable,
    pack_batch,
)
from server.engine.types import EngineDead

logger = logging.getLogger(__name__)

RANKS_FAILED = "The ranks of the engine could not work together."


class Crew:
    """The other ranks, none by default: then everything is as if there were no crew."""

    def __init__(self, mates: Sequence["Mate"] = (), ranks: Ranks = ALONE) -> None:
        self._mates = mates
        self.ranks = ranks

    def least(self, kv_budget: int) -> int:
        """What the rank with the least room has for keys and values, in bytes, once all have
        loaded their weights. `EngineDead` if one cannot."""
        return min([kv_budget, *(mate.wait_loaded().kv_budget for mate in self._mates)])

    def begin(self, num_blocks: int, block_size: int, max_look_rows: int) -> None:
        self.tell(Begin(num_blocks, block_size, max_look_rows))

    def tell(self, message: ToRank) -> None:
        """All ranks hear the same, in the same order."""
        frame = pack_frame(message)
        for mate in self._mates:
            mate.send(frame)

    def lead(self, model: Transformer) -> "LedModel | Transformer":
        """The model as the runner calls it."""
        return LedModel(self, model) if self._mates else model

    def lead_inspector(self, inspect: Inspect) -> Inspect:
        return LedInspector(self, inspect) if self._mates else inspect


class LedModel:
    """Rank 0's share of a model; called, it has the other ranks compute theirs."""

    def __init__(self, crew: Crew, model: Transformer) -> None:
        self._crew, self._model = crew, model

    def __call__(self, batch: ForwardBatch, kv_cache: KVCache, /) -> Tensor:
        self._crew.tell(pack_batch(batch, has_hidden=False))
        with ending_the_engine():
            logits: Tensor = self._model(batch, kv_cache)
        return logits

    def with_hidden(self, batch: ForwardBatch, kv_cache: KVCache, /) -> tuple[Tensor, Tensor]:
        self._crew.tell(pack_batch(batch, has_hidden=True))
        with ending_the_engine():
            return self._model.with_hidden(batch, kv_cache)


class LedInspector:
    """Looks inside on all ranks, piece by piece: a head's pattern is on one of them alone."""

    def __init__(self, crew: Crew, inspect: Inspect) -> None:
        self._crew, self._inspect = crew, inspect

    def __call__(self, request: InspectRequest) -> Iterator[Trace | None]:
        pieces = self._inspect(request)
        self._crew.tell(Look(request))
        try:
            while True:
                self._crew.tell(LookOn(request.request_id))
                with ending_the_engine():
                    piece = next(pieces)
                yield piece
        finally:
            self._crew.tell(LookAway(request.request_id))


@contextlib.contextmanager
def ending_the_engine() -> Iterator[None]:
    """A step that failed on one rank leaves the others in the middle of it: nothing can go on."""
    try:
        yield
    except torch.AcceleratorError:
        raise
    except Exception as error:
        logger.exception("a step on several ranks failed")
        raise EngineDead(RANKS_FAILED) from error


class Mate:
    """Another rank's process, and the socket to it."""

    def __init__(self, rank: int, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self._rank, self._process, self._sock = rank, process, sock
        self._frames = FrameReader[FromRank](msgspec.msgpack.Decoder(FromRank))

    @classmethod
    def start(cls, rank: int, argv: Sequence[str], on_end: Callable[[str], object]) -> "Mate":
        """Run `argv` with the socket's descriptor number as one more argument. `on_end` is called
        by another thread when the process is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            process = subprocess.Popen(
                [*argv, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        mate = cls(rank, process, ours)
        threading.Thread(
            target=mate._watch, args=(on_end,), name=f"rank-{rank}", daemon=True
        ).start()
        return mate

    def _watch(self, on_end: Callable[[str], object]) -> None:
        code = self._process.wait()
        on_end(f"rank {self._rank} has ended with code {code}")

    def send(self, frame: bytes) -> None:
        try:
            self._sock.sendall(frame)
        except ConnectionError as error:
            raise EngineDead(RANKS_FAILED) from error

    def wait_arrived(self) -> None:
        message = self._hear()
        assert isinstance(message, Arrived), f"unexpected {message!r}"

    def wait_loaded(self) -> Loaded:
        message = self._hear()
        assert isinstance(message, Loaded), f"unexpected {message!r}"
        return message

    def _hear(self) -> FromRank:
        """Raises `EngineDead` with the rank's own reason if it cannot take part."""
        try:
            message = self._frames.read(self._sock)
        except (EOFError, ConnectionError) as error:
            raise EngineDead(f"Rank {self._rank} ended while loading.") from error
        if isinstance(message, Unable):
            raise EngineDead(f"Rank {self._rank}: {message.message}")
        return message


def summon(
    argv: Sequence[str],
    recipe: bytes,
    size: int,
    device: torch.device,
    *,
    timeout: float,
    is_deterministic: bool,
    on_end: Callable[[str], object],
) -> Crew:
    """Start the other ranks and meet them. `EngineDead` if they do not come together in time.

    The file they meet in lies in a directory of this user alone, and is gone afterwards.
    """
    mates = [Mate.start(rank, argv, on_end) for rank in range(1, size)]
    for mate in mates:
        mate.wait_arrived()
    directory = tempfile.mkdtemp(prefix="thirdeye-ranks-")
    path = Path(directory) / "meeting"
    try:
        for rank, mate in enumerate(mates, 1):
            mate.send(pack_frame(Join(recipe, str(path), rank)))
        meeting = Meeting(path, 0, size, timeout)
        ranks = join(meeting, device, is_deterministic=is_deterministic)
        return Crew(mates, ranks)
    except RuntimeError as error:
        raise EngineDead(f"{RANKS_FAILED} ({error})") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def end_process(why: str) -> Any:
    """What rank 0 does when another rank is gone: it may be waiting for it for ever."""
    logger.error("the engine ends: %s", why)
    os._exit(1)
