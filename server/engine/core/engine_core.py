"""The engine itself: a scheduler and a runner, one step at a time, and the bulkheads between
requests.

    add, abort  ->  step(): schedule -> run -> update  ->  outputs

With a launcher, steps overlap: the next one is launched before the last one is read, and while the
device computes it, the host tells what the last one said. The plan ahead is one of `Scheduler`'s; a
plan that cannot be launched ahead waits for all that is in flight, and is then run as ever.

    schedule(n + 1) -> launch(n + 1) -> read(n) -> update(n) -> sample(n + 1)

`sample` does something only for steps with a grammar, whose mask depends on the token before. A
step is read first where a draft model has to catch up with a text (`Scheduler.reads_newest`).

What goes wrong stays as small as it can: a request that cannot be queued fails alone; an exception
in a step fails the requests of that step, and the engine goes on. Only two things end the engine: a
broken device, whose context no later step could use, and a broken invariant of our own, after which
no answer could be trusted. Clients never see an exception's text; the log has it.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import torch

from thirdeye.model.fast_path import FastPath
from thirdeye.server.engine.core.adapter_loader import AdapterLoader
from thirdeye.server.engine.core.preparation import Make, Preparation
from thirdeye.server.engine.core.step_recorder import StepRecorder
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.model_runner import Runner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.inspection.inspection_queue import Inspect, InspectionQueue
from thirdeye.server.engine.interface.adapters import AdapterReport, AdapterSource
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.engine_stats import EngineStats, MissedPath
from thirdeye.server.engine.interface.grammar_protocol import GrammarError
from thirdeye.server.engine.interface.step_record import StepRecord
from thirdeye.server.engine.interface.trace import Trace, TraceRequest
from thirdeye.server.engine.interface.types import (
    EngineDead,
    ErrorCode,
    FinishReason,
    Request,
    StepOutput,
)
from thirdeye.server.engine.run_ahead.launched_step import LaunchedStep
from thirdeye.server.engine.run_ahead.launcher import Launcher
from thirdeye.server.engine.scheduling.scheduler import RequestTooLarge, Scheduler
from thirdeye.server.engine.scheduling.sequence import SequenceStatus
from thirdeye.server.engine.scheduling.speculation.proposer import Proposer
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "The engine ran out of memory while it worked on this request. Please try again, "
    "or send a shorter one."
)
TRITON_ERROR = "Triton Error [CUDA]"
MEMORY_WORDS = ("can't allocate memory", f"{TRITON_ERROR}: out of memory")
NO_ROOM = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}  # for a process, a file
GRAMMAR_FAILED = "The grammar of this request could not be compiled."
ADAPTER_GONE = "The adapter of this request was unloaded before the request could begin."
NO_ADAPTERS = "this engine was started without room for adapters."
STEP_FAILED = "The engine failed while it worked on this request. Please try again."


class EngineCore:
    """Single-threaded: whoever calls `step` also calls `add` and `abort`."""

    def __init__(
        self,
        config: EngineConfig,
        runner: Runner,
        scheduler: Scheduler | None = None,
        inspect: Inspect | None = None,
        grammars: GrammarCompiler | None = None,
        launcher: Launcher | None = None,
        fast_paths: Iterable[FastPath] = (),
        adapters: AdapterLoader | None = None,
        proposer: Proposer | None = None,
        prepare: Iterable[Make] = (),
    ) -> None:
        """`fast_paths`: those of the model, which know when they are not taken. `proposer`: what
        guesses, where `config` asks for guesses; None: prompt lookup. `prepare`: what is made, one
        after the other, when there is nothing to do."""
        proposer = proposer or EachText(PromptLookup)
        self._scheduler = scheduler or Scheduler(config, proposer=proposer)
        self._fast_paths = tuple(fast_paths)
        self._runner = runner
        self._launcher = launcher
        self._launched: LaunchedStep | None = None
        self._grammars = grammars
        self._adapters = adapters
        self._unloadable: list[AdapterReport] = []  # where there is no room for any
        self._inspections = InspectionQueue(inspect)
        self._recorder = StepRecorder()
        self.preparation = Preparation(prepare)
        self._outputs: list[StepOutput] = []  # given at the end of the next step
        self._is_held_up = False  # the last step had nothing to do until a mask arrives
        self.is_watched = False  # whether `records` is of interest to anybody

    def add(self, request: Request) -> None:
        self._is_held_up = False
        if request.adapter and not (self._adapters and self._adapters.has(request.adapter)):
            self._outputs.append(
                StepOutput(
                    request_id=request.request_id,
                    finish_reason=FinishReason.ERROR,
                    error=ADAPTER_GONE,
                    error_code=ErrorCode.ADAPTER_GONE,
                )
            )
            return
        needs_matcher = request.is_constrained and self._grammars is not None
        try:
            self._scheduler.add(request, is_ready=not needs_matcher)
        except ValueError as error:  # its text is ours and made for the client
            is_too_large = isinstance(error, RequestTooLarge)
            self._outputs.append(
                StepOutput(
                    request_id=request.request_id,
                    finish_reason=FinishReason.ERROR,
                    error=str(error),
                    error_code=ErrorCode.REQUEST_TOO_LARGE if is_too_large else None,
                )
            )
            return
        if needs_matcher and self._grammars is not None:
            self._grammars.start(request)

    def abort(self, request_id: str) -> None:
        output = self._scheduler.abort(request_id)
        if output is not None:
            self._outputs.append(output)
            self._forget_grammars([output])

    def abort_all(self) -> None:
        outputs = self._scheduler.abort_all()
        self._outputs += outputs
        self._forget_grammars(outputs)

    def call_when_ready(self, wake: Callable[[], None]) -> None:
        """`wake` is called, by another thread, when `has_work` may have become true."""
        if self._grammars is not None:
            self._grammars.wake = wake
        if self._adapters is not None:
            self._adapters.wake = wake

    @property
    def has_work(self) -> bool:
        has_matcher = self._grammars is not None and self._grammars.has_ready
        has_outputs = bool(self._outputs) or self._launched is not None
        has_adapter = self._adapters is not None and self._adapters.has_work
        has_more = has_matcher or has_adapter or bool(self._unloadable)
        has_work = self._scheduler.has_work and not self._is_held_up
        return has_work or has_outputs or has_more or self._inspections.has_work

    @property
    def is_idle(self) -> bool:
        """Nothing to do, and nobody who waits for a grammar or a mask."""
        return self._scheduler.is_empty and not self.has_work

    def awaited(self) -> list[int]:
        """Descriptors, one of which is readable before answers that sit out have work again."""
        return self._scheduler.awaited()

    def step(self) -> list[StepOutput]:
        """Compute one step, and give back all that there is to tell since the last."""
        if self._adapters is not None:
            self._adapters.install()
        late = self._scheduler.expire()
        self._forget_grammars(late)
        self._outputs += late
        self._take_matchers()
        self._outputs += self._scheduler.take_masks()
        if self._launched is not None and self._scheduler.reads_newest:
            self._outputs += self._read_launched()
        self._recorder.start()
        plan = self._scheduler.schedule()
        self._is_held_up = not plan.rows and self._launched is None
        if plan.rows or self._inspections.first:
            self._recorder.scheduled(plan, self._scheduler.gauges(), self._scheduler.queue())
            outputs = self._advance(plan)
            self._inspect()
            self._recorder.finish(outputs)
            self._outputs += outputs
        elif self._launched is not None:
            self._outputs += self._read_launched()
        if self._adapters is not None and self._adapters.is_waiting:
            running, waiting = self._scheduler.adapters()
            self._adapters.free(running | waiting | self._inspections.adapters)
        if self._scheduler.is_empty:
            self._read_launched()  # which nobody wants to know
            self._scheduler.check_idle()
        outputs, self._outputs = self._outputs, []
        return outputs

    def _take_matchers(self) -> None:
        """Queue those whose grammar is compiled; what went wrong with one is its error alone."""
        if self._grammars is None:
            return
        for request_id, found in self._grammars.pop_ready():
            if isinstance(found, Exception):
                self._outputs.append(self._scheduler.reject(request_id, *why_no_matcher(found)))
            else:
                self._scheduler.make_ready(request_id, found)

    def _forget_grammars(self, ended: list[StepOutput]) -> None:
        if self._grammars is not None:
            for output in ended:
                self._grammars.forget(output.request_id)

    def _advance(self, plan: StepPlan) -> list[StepOutput]:
        if not plan.rows:
            return self._read_launched()
        return self._run(plan) if self._launcher is None else self._run_ahead(plan)

    def _run(self, plan: StepPlan) -> list[StepOutput]:
        try:
            result = self._runner.run(plan)
        except Exception as error:
            return self._fail(plan, error)
        self._recorder.computed(result.forward_seconds, result.sample_seconds)
        self._scheduler.pace.observe(plan.num_scheduled_tokens, result.forward_seconds)
        return self._scheduler.update(plan, result)

    def _run_ahead(self, plan: StepPlan) -> list[StepOutput]:
        """Launch a step and then read the one before; the other way round if that must be."""
        assert self._launcher is not None
        if not self._launcher.can_launch(plan):
            outputs = self._read_launched()
            self._scheduler.drop(row for row in plan.rows if not is_running(row))
            still = self._scheduler.settled(plan)
            return outputs + (self._run(still) if still.rows else [])
        started = time.perf_counter()
        try:
            step = self._launcher.launch(plan)
        except Exception as error:
            return self._read_launched() + self._fail(plan, error)
        step.launched_at = (step.guessed_at or started) if self._launched is None else None
        self._scheduler.launched(plan)
        launched = time.perf_counter()
        outputs = self._read_launched()
        if any(is_running(row) for row in plan.rows):
            outputs += self._sample(step)
        else:  # nobody wants to know
            self._scheduler.drop(plan.rows)
        self._recorder.computed(launched - started, time.perf_counter() - launched)
        self._scheduler.pace.observe(plan.num_scheduled_tokens, launched - started)
        return outputs

    def _sample(self, step: LaunchedStep) -> list[StepOutput]:
        assert self._launcher is not None
        try:
            self._launcher.sample(step)
        except Exception as error:
            return self._fail(step.plan, error)
        self._launched = step
        return []

    def _read_launched(self) -> list[StepOutput]:
        """Read the step in flight, if there is one that matters to anybody."""
        step, self._launched = self._launched, None
        if step is None:
            return []
        if not any(is_unfinished(row) for row in step.plan.rows):
            self._scheduler.drop(step.plan.rows)
            return []
        try:
            result = step.read()
        except Exception as error:
            return self._fail(step.plan, error)
        return self._scheduler.update(step.plan, result)

    def _fail(self, plan: StepPlan, error: Exception) -> list[StepOutput]:
        """End the requests of a step; raises what ends the engine."""
        if isinstance(error, torch.AcceleratorError | EngineDead) or is_lost_device(error):
            raise error
        logger.error("a step of %d requests failed", len(plan.rows), exc_info=error)
        if is_out_of_memory(error):
            return self._scheduler.fail(plan, OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY)
        return self._scheduler.fail(plan, STEP_FAILED)

    def _inspect(self) -> None:
        """A piece of the first inspection, if there is one."""
        request = self._inspections.first
        if request is None:
            return
        started = time.perf_counter()
        self._inspections.advance()
        self._recorder.inspected(request, time.perf_counter() - started)

    def stats(self, **more: Any) -> EngineStats:
        """`more`: fields that others count."""
        missed = [
            MissedPath(p.missed, p.reason, p.num_missed) for p in self._fast_paths if p.reason
        ]
        totals = self._recorder.totals()
        stats = self._scheduler.stats(**totals, missed_paths=missed, **more)
        if self._adapters is None or not self._adapters.num_loaded:
            return stats
        running, waiting = self._scheduler.adapters()
        return msgspec.structs.replace(
            stats,
            num_adapters=self._adapters.num_loaded,
            adapter_bytes=self._adapters.num_bytes,
            running_adapters=sorted(running),
            waiting_adapters=sorted(waiting),
        )

    def load_adapter(self, source: AdapterSource) -> None:
        if self._adapters is None:
            self._unloadable.append(AdapterReport(number=source.number, error=NO_ADAPTERS))
        else:
            self._adapters.start(source)

    def unload_adapter(self, number: int) -> None:
        if self._adapters is not None:
            self._adapters.unload(number)

    def adapter_reports(self) -> list[AdapterReport]:
        """Of those whose load has ended since."""
        reports, self._unloadable = self._unloadable, []
        return reports if self._adapters is None else self._adapters.pop_reports()

    def inspect(self, request: TraceRequest) -> None:
        if request.adapter and not (self._adapters and self._adapters.has(request.adapter)):
            self._inspections.refuse(request.request_id, ADAPTER_GONE)
        else:
            self._inspections.add(request)

    def reset_prefix_cache(self) -> None:
        self._scheduler.reset_prefix_cache()

    def end_inspection(self, request_id: str) -> None:
        self._inspections.abort(request_id)

    def traces(self) -> list[Trace]:
        """What the inspections of the last step have to tell."""
        return self._inspections.pop_traces()

    def records(self) -> list[StepRecord]:
        """What the watchers have not been told yet."""
        return self._recorder.pop_new() if self.is_watched else []


def is_running(row: PlanRow) -> bool:
    return row.sequence.status is SequenceStatus.RUNNING


def is_unfinished(row: PlanRow) -> bool:
    return row.sequence.status is not SequenceStatus.FINISHED


def why_no_matcher(error: Exception) -> tuple[str, ErrorCode | None]:
    """What a request hears that has none. Its grammar is to blame for a `GrammarError` alone: the
    vocabulary may be unreadable, a process not be had."""
    if isinstance(error, GrammarError):
        return GRAMMAR_FAILED, ErrorCode.INVALID_GRAMMAR
    if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY
    return STEP_FAILED, None


def is_lost_device(error: Exception) -> bool:
    """triton says what the driver says as a plain RuntimeError: a context that has met an illegal
    address answers every later call so."""
    return str(error).startswith(TRITON_ERROR) and not is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """torch's CPU allocator raises a plain RuntimeError, known only by its words."""
    is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_memory or any(words in str(error) for words in MEMORY_WORDS)
