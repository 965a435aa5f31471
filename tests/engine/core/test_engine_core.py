"""Bulkheads: what fails, fails as small as it can, and says nothing of its insides to the
client."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
import torch

from tests.engine.toy import (
    ToyCache,
    ToyModel,
    collect,
    drain,
    greedy_reference,
    make_request,
    run_all,
    tokens_of,
    toy_config,
    toy_core,
    toy_info,
)
from thirdeye.model.batch import ForwardBatch
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.interface.types import EngineDead, ErrorCode, FinishReason, StepOutput
from thirdeye.server.engine.process.engine_loop import run_loop
from thirdeye.server.engine.process.inbox import Inbox
from thirdeye.server.engine.process.messages import Abort, Add, Step, Stop
from thirdeye.server.engine.process.thread_engine import ThreadEngine


class FailsOnce(ToyModel):
    def __init__(self, error: BaseException) -> None:
        self._error: BaseException | None = error

    def __call__(self, batch: ForwardBatch, kv_cache: ToyCache, /) -> torch.Tensor:
        error, self._error = self._error, None
        if error is not None:
            kv_cache.tokens[batch.slot_mapping] = 99  # half done: must never be read
            raise error
        return super().__call__(batch, kv_cache)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("secret"), "failed"),
        (MemoryError("secret"), "memory"),
        (torch.OutOfMemoryError("secret"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: secret"), "memory"),
    ],
)
def test_a_failing_step_fails_its_batch_alone(error: Exception, text: str) -> None:
    """And its half-computed blocks are not found by the next request with the same prompt."""
    core = toy_core(model=FailsOnce(error))
    outputs = run_all(core, [make_request(str(i), [5] * 20) for i in range(3)])
    for of_one in outputs.values():
        assert [o.finish_reason for o in of_one] == [FinishReason.ERROR]
        assert text in (of_one[0].error or "")
        assert "secret" not in (of_one[0].error or "")
    again = make_request("again", [5] * 20)
    assert tokens_of(run_all(core, [again])["again"]) == greedy_reference(again)
    assert core.stats().num_blocks_used == 0


def test_what_can_never_run_is_refused_with_both_numbers() -> None:
    core = toy_core(toy_config(max_model_len=16))
    twin = make_request("twin")
    outputs = run_all(core, [make_request("long", [1] * 17), make_request("none", []), twin, twin])
    assert "between 1 and 16 tokens, got 17" in (outputs["long"][0].error or "")
    assert "got 0" in (outputs["none"][0].error or "")
    assert any("unique" in (o.error or "") for o in outputs["twin"])
    full = run_all(core, [make_request("full", [1] * 16)])["full"]
    assert [(o.finish_reason, o.token_ids) for o in full] == [(FinishReason.LENGTH, [])]


def test_abort_while_waiting_and_while_running() -> None:
    core = toy_core(toy_config(max_num_seqs=1))
    for name in ("a", "b", "c"):
        core.add(make_request(name, max_tokens=50, ignore_eos=True))
    core.step()
    core.abort("b")
    core.abort("a")
    core.abort("a")
    outputs = core.step()
    assert {o.request_id for o in outputs if o.finish_reason is FinishReason.ABORT} == {"a", "b"}
    rest = drain(core)
    assert set(rest) == {"c"}
    timings = rest["c"][-1].timings
    assert timings is not None
    assert timings.num_steps == 50
    parts = timings.queue_ms + timings.prefill_ms + timings.decode_ms
    assert abs(parts - timings.total_ms) < 1e-6


def test_the_loop_obeys_until_stop() -> None:
    """One message for each step, numbered without a gap; Stop ends what runs with ABORT."""
    inbox = Inbox()
    steps: list[Step] = []

    def emit(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            inbox.put(Abort("a"))
        if len(steps) == 6:
            inbox.put(Stop())

    for name in ("a", "b"):
        inbox.put(Add(make_request(name, max_tokens=100, ignore_eos=True)))
    run_loop(toy_core(), inbox, emit)
    assert [step.sequence for step in steps] == list(range(len(steps)))
    ends = [(o.request_id, o.finish_reason) for s in steps for o in s.outputs if o.finish_reason]
    assert ends == [("a", FinishReason.ABORT), ("b", FinishReason.ABORT)]
    assert steps[-1].stats.num_blocks_used == 0
    assert inbox.take() == []


class SlowInbox(Inbox):
    """A request after ten seconds, the end after ten more."""

    def __init__(self, now: list[float]) -> None:
        super().__init__()
        self._now = now
        self._commands: list[Add | Stop] = [Add(make_request("a", max_tokens=1)), Stop()]

    def wait(self, descriptors: Sequence[int] = (), seconds: float | None = None) -> bool:
        assert not descriptors
        assert seconds is None
        self._now[0] += 10
        self.put(self._commands.pop(0))
        return True


def test_idling_and_telling_are_counted() -> None:
    """By a clock of our own; what a message took is known to the next."""
    now, steps = [0.0], []

    def emit(step: Step) -> None:
        now[0] += 3
        steps.append(step)

    run_loop(toy_core(), SlowInbox(now), emit, clock=lambda: now[0])
    totals = [(s.stats.idle_seconds_total, s.stats.emit_seconds_total) for s in steps]
    assert totals == [(10, 0), (20, 3)]


class BrokenCore(EngineCore):
    all_sent = threading.Event()

    def step(self) -> list[StepOutput]:
        assert self.all_sent.wait(20)
        raise AssertionError("an invariant is broken")


def test_a_broken_invariant_ends_the_engine_and_every_stream() -> None:
    async def main() -> None:
        core = BrokenCore(toy_config(), runner=None)  # type: ignore[arg-type]  # never reached
        engine = ThreadEngine(core, toy_info(toy_config()))
        tasks = [asyncio.create_task(collect(engine, make_request(str(i)))) for i in range(3)]
        for _ in range(10):  # turns of the loop: each task has sent its request
            await asyncio.sleep(0)
        core.all_sent.set()
        for outputs in await asyncio.gather(*tasks):
            assert [o.finish_reason for o in outputs] == [FinishReason.ERROR]
        assert not engine.is_alive
        with pytest.raises(EngineDead, match="failed"):
            await collect(engine, make_request())
        await engine.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("fault"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
)
def test_a_device_fault_is_not_survived(error: Exception) -> None:
    """Every later step would fail as well: better a new process."""
    core = toy_core(model=FailsOnce(error))
    core.add(make_request())
    with pytest.raises(type(error)):
        core.step()


def test_a_kernel_that_finds_no_memory_is_survived() -> None:
    core = toy_core(model=FailsOnce(RuntimeError("Triton Error [CUDA]: out of memory")))
    core.add(make_request())
    (output,) = core.step()
    assert output.error_code is ErrorCode.OUT_OF_MEMORY
