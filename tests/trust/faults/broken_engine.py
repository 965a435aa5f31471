"""A real engine core whose allocator, steps, clock and compiler fail as an `EngineLife` says."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.trust.faults.schedules import EngineLife
from thirdeye.server.engine.cache.block_pool import BlockPool
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.step_result import RowResult, StepResult
from thirdeye.server.engine.scheduling.scheduler import Scheduler
from thirdeye.server.engine.scheduling.step_plan import StepPlan

CONFIG = EngineConfig(
    max_model_len=64,
    num_blocks=24,
    block_size=4,
    max_num_seqs=4,
    max_num_batched_tokens=16,
    eos_token_ids=[257],
    queue_timeout=30.0,
    request_timeout=60.0,
)


def next_token(token_ids: Sequence[int]) -> int:
    """A letter that depends on all before it."""
    mixed = 7
    for token_id in token_ids:
        mixed = (mixed * 31 + token_id + 1) % 1_000_003
    return 97 + mixed % 26


def answer_to(prompt: str, num_tokens: int) -> str:
    token_ids = list(prompt.encode())
    for _ in range(num_tokens):
        token_ids.append(next_token(token_ids))
    return bytes(token_ids[len(prompt.encode()) :]).decode()


class NoEnd(BaseException):
    """A step that never ends: nobody in the engine catches it, and its process waits for ever."""


class FaultyRunner:
    def __init__(self, life: EngineLife) -> None:
        self._life = life
        self._steps = count()

    def run(self, plan: StepPlan) -> StepResult:
        step = next(self._steps)
        if step == self._life.hang_at_step:
            raise NoEnd
        if step in self._life.memory_at_steps:
            raise MemoryError(f"no memory in step {step}")
        return StepResult(
            [
                RowResult([next_token(row.sequence.token_ids)] if row.is_sampled else [])
                for row in plan.rows
            ]
        )


class LeanPool(BlockPool):
    """At some times it has no more blocks than one sequence of the longest length can take."""

    def __init__(self, life: EngineLife, clock: Callable[[], float]) -> None:
        super().__init__(CONFIG.num_blocks, CONFIG.block_size, root=b"fixed")
        self._lean_at, self._clock, self._began = life.lean_at, clock, clock()

    @property
    def num_free(self) -> int:
        spent = self._clock() - self._began
        is_lean = any(0 <= spent - at < 0.5 for at in self._lean_at)
        least = self.num_blocks_for(CONFIG.max_model_len)
        return max(least - self.num_used, 0) if is_lean else super().num_free

    def allocate(self, num_blocks: int, group: int = 0) -> list[int] | None:
        return None if num_blocks > self.num_free else super().allocate(num_blocks, group)


class Anything:
    """The matcher of a grammar that allows everything."""

    is_over = False
    late = None

    def follow(self, token_ids: Sequence[int]) -> None: ...

    def fill(self, mask: NDArray[np.int32]) -> None:
        mask[:] = -1


class LateExecutor:
    """Does what it is given some time later, or never."""

    def __init__(self, life: EngineLife) -> None:
        self._life = life
        self._numbers = count()

    def submit(self, tenant: str, work: Callable[[], Any], /) -> "Future[Any]":
        future: Future[Any] = Future()
        number = next(self._numbers)
        if number not in self._life.compile_hangs:
            loop = asyncio.get_running_loop()
            loop.call_later(self._life.compile_seconds, self._finish, future, number, work)
        return future

    def _finish(self, future: "Future[Any]", number: int, work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if number in self._life.compile_faults:
            future.set_exception(ValueError("no grammar"))
        else:
            future.set_result(work())


def broken_core(life: EngineLife, clock: Callable[[], float]) -> EngineCore:
    scheduler = Scheduler(CONFIG, LeanPool(life, clock), clock=clock)
    grammars = GrammarCompiler(lambda *_: Anything(), LateExecutor(life))
    return EngineCore(CONFIG, FaultyRunner(life), scheduler, grammars=grammars)
