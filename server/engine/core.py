"""The engine itself: a scheduler and a runner, one step at a time, and the bulkheads between
requests.

    add, abort  ->  step(): schedule -> run -> update  ->  outputs

What goes wrong stays as small as it can: a request that cannot be queued fails alone; an exception
in a step fails the requests of that step, and the engine goes on. Only two things end the engine: a
broken device, whose context no later step could use, and a broken invariant of our own, after which
no answer could be trusted. Clients never see an exception's text; the log has it.
"""

import logging
import time
from collections.abc import Callable

import msgspec
import torch

from server.engine.compiler import GrammarCompiler
from server.engine.config import EngineConfig
from server.engine.inspection import InspectRequest, Trace
from server.engine.inspector import Inspect, Inspections
from server.engine.plan import StepPlan
from server.engine.runner import Runner
from server.engine.scheduler import RequestTooLarge, Scheduler
from server.engine.timeline import StepRecorder
from server.engine.types import (
    EngineDead,
    EngineStats,
    ErrorCode,
    FinishReason,
    Request,
    StepOutput,
    StepRecord,
)

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "The engine ran out of memory while it worked on this request. Please try again, "
    "or send a shorter one."
)
GRAMMAR_FAILED = "The grammar of this request could not be compiled."
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
    ) -> None:
        self._scheduler = scheduler or Scheduler(config)
        self._runner = runner
        self._grammars = grammars
        self._inspections = Inspections(inspect)
        self._recorder = StepRecorder()
        self._outputs: list[StepOutput] = []  # given at the end of the next step
        self.is_watched = False  # whether `records` is of interest to anybody

    def add(self, request: Request) -> None:
        needs_matcher = bool(request.grammar) and self._grammars is not None
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

    @property
    def has_work(self) -> bool:
        has_matcher = self._grammars is not None and self._grammars.has_ready
        has_outputs = bool(self._outputs)
        return self._scheduler.has_work or has_outputs or has_matcher or self._inspections.has_work

    def step(self) -> list[StepOutput]:
        """Compute one step, and give back all that there is to tell since the last."""
        late = self._scheduler.expire()
        self._forget_grammars(late)
        self._outputs += late
        self._take_matchers()
        self._recorder.start()
        plan = self._scheduler.schedule()
        if plan.rows or self._inspections.first:
            self._recorder.scheduled(plan, self._scheduler.stats(), self._scheduler.queue())
            outputs = self._run(plan) if plan.rows else []
            self._inspect()
            self._recorder.finish(outputs)
            self._outputs += outputs
        if self._scheduler.is_empty:
            self._scheduler.check_integrity()
        outputs, self._outputs = self._outputs, []
        return outputs

    def _take_matchers(self) -> None:
        """Queue those whose grammar is compiled; what was wrong with one is its error alone."""
        if self._grammars is None:
            return
        for request_id, matcher in self._grammars.take():
            if matcher is not None:
                self._scheduler.make_ready(request_id, matcher)
            else:
                code = ErrorCode.INVALID_GRAMMAR
                self._outputs.append(self._scheduler.reject(request_id, GRAMMAR_FAILED, code))

    def _forget_grammars(self, ended: list[StepOutput]) -> None:
        if self._grammars is not None:
            for output in ended:
                self._grammars.forget(output.request_id)

    def _run(self, plan: StepPlan) -> list[StepOutput]:
        try:
            result = self._runner.run(plan)
        except (torch.AcceleratorError, EngineDead):
            raise
        except Exception as error:
            logger.exception("a step of %d requests failed", len(plan.rows))
            if _is_out_of_memory(error):
                return self._scheduler.fail(plan, OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY)
            return self._scheduler.fail(plan, STEP_FAILED)
        self._recorder.computed(result.forward_seconds, result.sample_seconds)
        self._scheduler.pace.saw(plan.num_scheduled_tokens, result.forward_seconds)
        return self._scheduler.update(plan, result)

    def _inspect(self) -> None:
        """A piece of the first inspection, if there is one."""
        request_id = self._inspections.first
        if request_id is None:
            return
        started = time.perf_counter()
        self._inspections.advance()
        self._recorder.inspected(request_id, time.perf_counter() - started)

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(self._scheduler.stats(), **self._recorder.totals())

    def inspect(self, request: InspectRequest) -> None:
        self._inspections.add(request)

    def leave(self, request_id: str) -> None:
        self._inspections.abort(request_id)

    def traces(self) -> list[Trace]:
        """What the inspections of the last step have to tell."""
        return self._inspections.take()

    def records(self) -> list[StepRecord]:
        """What the watchers have not been told yet."""
        return self._recorder.take() if self.is_watched else []


def _is_out_of_memory(error: Exception) -> bool:
    """torch's CPU allocator raises a plain RuntimeError, known only by its words."""
    is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_memory or "can't allocate memory" in str(error)
