"""The engine itself: a scheduler and a runner, one step at a time, and the bulkheads between
requests.

    add, abort  ->  step(): schedule -> run -> update  ->  outputs

What goes wrong stays as small as it can: a request that cannot be queued fails alone; an exception
in a step fails the requests of that step, and the engine goes on. Only two things end the engine: a
broken device, whose context no later step could use, and a broken invariant of our own, after which
no answer could be trusted. Clients never see an exception's text; the log has it.
"""

import logging

import msgspec
import torch

from server.engine.config import EngineConfig
from server.engine.inspection import InspectRequest, Trace
from server.engine.inspector import Inspect, Inspections
from server.engine.plan import StepPlan
from server.engine.runner import Runner
from server.engine.scheduler import RequestTooLarge, Scheduler
from server.engine.timeline import StepRecorder
from server.engine.types import (
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
STEP_FAILED = "The engine failed while it worked on this request. Please try again."


class EngineCore:
    """Single-threaded: whoever calls `step` also calls `add` and `abort`."""

    def __init__(
        self,
        config: EngineConfig,
        runner: Runner,
        scheduler: Scheduler | None = None,
        inspect: Inspect | None = None,
    ) -> None:
        self._scheduler = scheduler or Scheduler(config)
        self._runner = runner
        self._inspections = Inspections(inspect)
        self._recorder = StepRecorder()
        self._outputs: list[StepOutput] = []  # given at the end of the next step
        self.is_watched = False  # whether `records` is of interest to anybody

    def add(self, request: Request) -> None:
        try:
            self._scheduler.add(request)
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

    def abort(self, request_id: str) -> None:
        output = self._scheduler.abort(request_id)
        if output is not None:
            self._outputs.append(output)

    def abort_all(self) -> None:
        self._outputs += self._scheduler.abort_all()

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or bool(self._outputs) or self._inspections.has_work

    def step(self) -> list[StepOutput]:
        """Compute one step, and give back all that there is to tell since the last."""
        self._outputs += self._scheduler.expire()
        self._recorder.start()
        plan = self._scheduler.schedule()
        if plan.rows:
            self._recorder.scheduled(plan, self._scheduler.stats(), self._scheduler.queue())
            outputs = self._run(plan)
            self._recorder.finish(outputs)
            self._outputs += outputs
        self._inspections.advance()
        if not self._scheduler.has_work:
            self._scheduler.check_integrity()
        outputs, self._outputs = self._outputs, []
        return outputs

    def _run(self, plan: StepPlan) -> list[StepOutput]:
        try:
            result = self._runner.run(plan)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            logger.exception("a step of %d requests failed", len(plan.rows))
            if _is_out_of_memory(error):
                return self._scheduler.fail(plan, OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY)
            return self._scheduler.fail(plan, STEP_FAILED)
        self._recorder.computed(result.forward_seconds, result.sample_seconds)
        self._scheduler.pace.saw(plan.num_scheduled_tokens, result.forward_seconds)
        return self._scheduler.update(plan, result)

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
