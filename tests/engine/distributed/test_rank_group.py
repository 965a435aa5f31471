"""What rank 0 hears of another rank, and a trial of the largest step on both at once.

Ranks are threads here; real processes are in `tests/engine/distributed/test_ranks.py`.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest
import torch

from tests.engine.core.test_profile_run import CountingMemory
from tests.model.parallel.test_parallel import WIDE, on_ranks, share_of
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, LLAMA, random_model
from tests.recipes import make_recipe
from thirdeye.model.parallel.shares import Ranks
from thirdeye.server.engine.cache.kv_budget import GIB
from thirdeye.server.engine.core.profile_run import FixedKVBudget, MeasuredKVBudget
from thirdeye.server.engine.distributed.leader import RankGroup
from thirdeye.server.engine.distributed.rank_messages import (
    Compute,
    Failed,
    FromRank,
    InitCache,
    Loaded,
    Loading,
    Measure,
    Measured,
    Started,
    ToRank,
    pack_batch,
)
from thirdeye.server.engine.distributed.rank_process import RankProcess
from thirdeye.server.engine.distributed.rank_worker import RankModel, RankWorker
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.frames import pack_frame
from thirdeye.server.load.kv_memory import try_step

__all__ = ["on_ranks"]  # a fixture

SECONDS = 30.0  # that a busy machine may take for what is done at once


class RankLine:
    """Another rank, the other end of its socket, and what its end was said to be."""

    def __init__(self, timeout: float) -> None:
        self.why: SimpleQueue[str] = SimpleQueue()
        self.own, self.socket = socket.socketpair()
        self.rank = RankProcess(
            1, self.own, timeout, self.why.put, how_it_ended=lambda: "has ended with code 3"
        )

    def send(self, message: FromRank) -> None:
        self.socket.sendall(pack_frame(message))


@pytest.fixture
def make_line() -> Iterator[Callable[[float], RankLine]]:
    lines: list[RankLine] = []

    def make(timeout: float) -> RankLine:
        lines.append(RankLine(timeout))
        return lines[-1]

    yield make
    for line in lines:
        line.socket.close()
        line.why.get(timeout=SECONDS)  # its thread has seen the end
        line.own.close()


def test_signs_of_life_are_not_an_answer(make_line) -> None:
    line = make_line(SECONDS)
    for message in (Started(), Loading(), Loading(), Loaded(), Measured(7)):
        line.send(message)
    line.rank.expect(Started)
    line.rank.expect(Loaded)
    assert line.rank.expect(Measured).kv_budget == 7


def test_a_silent_rank_is_waited_for_for_so_long(make_line) -> None:
    """The start of an engine does not hang: rank, seconds."""
    with pytest.raises(EngineDead, match=r"Rank 1 has not been heard of for 0\.05 seconds\."):
        make_line(0.05).rank.expect(Loaded)


def test_a_ranks_last_word_is_heard_wherever_rank_0_is(make_line) -> None:
    """Nobody expects a message here; and a rank that says nothing more has an exit code."""
    line = make_line(SECONDS)
    line.send(Failed("no such file."))
    assert line.why.get(timeout=SECONDS) == "Rank 1: no such file."
    line.why.put("for the fixture")
    other = make_line(SECONDS)
    other.socket.close()
    assert other.why.get(timeout=SECONDS) == "Rank 1 has ended with code 3."
    other.why.put("for the fixture")


class RankThread:
    """Another rank that is a thread."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[ToRank] = SimpleQueue()
        self.outbox: SimpleQueue[Any] = SimpleQueue()

    def broadcast(self, message: ToRank) -> None:
        self.inbox.put(message)

    def expect(self, kind: type[Any]) -> Any:
        message = self.outbox.get(timeout=SECONDS)
        assert isinstance(message, kind)
        return message


class FakeRankGroup(RankGroup):
    def __init__(self, thread: RankThread, ranks: Ranks) -> None:
        others: Any = [thread]
        super().__init__(others, ranks)
        self._thread = thread

    def broadcast(self, message: ToRank) -> None:
        self._thread.broadcast(message)


@pytest.mark.parametrize("asked", [None, GIB, 5 * GIB])
def test_a_trial_on_two_ranks(on_ranks, asked: int | None) -> None:
    """Both compute the same largest step at the same time; rank 1 has 4 GiB less and a step that
    takes more, so it decides. A cache that was asked for must fit every rank."""
    torch.set_num_threads(1)
    recipe = make_recipe(
        max_num_seqs=3,
        max_num_batched_tokens=30,
        tensor_parallel=2,
        kv_memory_bytes=asked,
    )
    thread = RankThread()
    memories = [CountingMemory(8 * GIB, GIB), CountingMemory(4 * GIB, GIB, others=5)]
    step_bytes = [1000, 3000]
    seen: list[list[tuple[int, ...]]] = [[], []]

    def act(ranks: Ranks) -> Any:
        memory, taken = memories[ranks.rank], step_bytes[ranks.rank]
        model = share_of(WIDE, ranks)

        def count(module: Any, args: Any, out: torch.Tensor) -> None:
            seen[ranks.rank].append(tuple(out.shape))
            memory.take(taken)
            memory.allocated -= taken

        model.register_forward_hook(count)
        if ranks.rank == 0:
            rank_group = FakeRankGroup(thread, ranks)
            try:
                return try_step(recipe, model, torch.float32, CPU, memory, rank_group)
            except ValueError as error:
                return error
        share = 0.9 if asked is None else 1.0
        worker = RankWorker(
            RankModel(model, CPU, torch.float32, MeasuredKVBudget(memory, share)), thread.outbox.put
        )
        while True:
            message = thread.inbox.get(timeout=SECONDS)
            worker.handle(message)
            if isinstance(message, Measure):
                return None

    usage, _ = on_ranks(2, act)
    assert seen[0] == seen[1]
    assert seen[0][0] == (30, WIDE.vocab_size)
    least = int((0.9 if asked is None else 1.0) * 4 * GIB) - GIB - 5 - 3000
    if asked == 5 * GIB:
        assert "'--kv-memory' must be at most 3.00 GiB here, got 5.00" in str(usage)
    else:
        assert usage.kv == (asked or least)
        assert replace(usage, lost=0).step == 1000
        assert ("more than another GPU has 3.60" in str(usage)) == (asked is None)


def test_a_trial_that_runs_out_on_a_rank_that_follows() -> None:
    """The same sentence as on rank 0, for the operator; a later step that does is a failure."""
    model = random_model(LLAMA)

    def run_out(*args: object) -> None:
        raise torch.OutOfMemoryError("of 80 GiB")

    model.register_forward_pre_hook(run_out)
    answers: list[FromRank] = []
    worker = RankWorker(RankModel(model, CPU, torch.float32, FixedKVBudget(77)), answers.append)
    step: Compute = pack_batch(make_batch([Row([1, 2], 0, [1])], 4, "last"), has_hidden=False)
    worker.handle(InitCache(4, 4, 1, is_trial=True))
    with pytest.raises(EngineDead, match=r"lower '--max-num-batched-tokens' .* \(of 80 GiB\)"):
        worker.handle(step)
    worker.handle(Measure())
    assert answers == [Measured(77)]
    worker.handle(InitCache(4, 4, 1, is_trial=False))
    with pytest.raises(torch.OutOfMemoryError):
        worker.handle(step)
