"""Spans of OpenTelemetry: one for each request, sent to a collector by OTLP over HTTP.

The SDK is an optional package, imported here and only once a server is told to trace. Its own
variables hold: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS and the rest.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thirdeye.server.engine.interface.step_record import StepRecord, StepRow
from thirdeye.server.engine.interface.types import Engine
from thirdeye.server.logs import Seldom
from thirdeye.server.tracing.request_trace import NO_TRACE, Attribute, RequestTrace
from thirdeye.server.tracing.step_events import StepEvents

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

PROBES = frozenset({"/health", "/ping", "/ready", "/metrics"})  # asked every few seconds
MAX_STEPS = 100  # events of a span; an SDK keeps 128 by default
LAST_STEP_SECONDS = 1.0  # how long a span waits for the record of its last step
CLOSE_SECONDS = 3.0
EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class TracingUnavailable(Exception):
    """The packages are not there; the text says how to get them."""


class OtelTracer:
    """Spans of one provider."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 (an optional package)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._tracer = provider.get_tracer("thirdeye")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._steps = StepEvents()

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> RequestTrace:
        """See `Tracer.begin`. Probes are not traced, nor what is not sampled."""
        if path in PROBES:
            return NO_TRACE
        carrier = {name: headers[name] for name in self._propagator.fields if name in headers}
        span = self._tracer.start_span(
            method,
            context=self._propagator.extract(carrier),
            kind=self._kind,
            attributes={"http.request.method": method, "url.path": path},
        )
        return OtelTrace(span, method, self._steps) if span.is_recording() else NO_TRACE

    def close(self) -> None:
        """A collector that does not answer is not waited for."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class OtelTrace:
    """One request's span. Its last step may be told after its answer is out: it ends then, at the
    time at which the answer was."""

    def __init__(self, span: "Span", method: str, steps: StepEvents) -> None:
        self._span = span
        self._method = method
        self._steps = steps
        self._open: dict[str, int] = {}  # engine requests whose last step was not seen: the choice
        self._num_steps = 0
        self._ended_at: int | None = None  # unix nanoseconds

    def computes(self, engine: Engine, request_ids: Sequence[str]) -> None:
        self._open.update({request_id: i for i, request_id in enumerate(request_ids)})
        self._steps.listen(engine, request_ids, self._on_step)

    def describe(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def end(self, route: str, status: int) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:  # what a caller did wrong is no error of the server's
            self._span.set_status(StatusCode.ERROR)
        self._ended_at = time.time_ns()
        if self._open:
            asyncio.get_running_loop().call_later(LAST_STEP_SECONDS, self._finish)
        else:
            self._finish()

    def _on_step(self, record: StepRecord, row: StepRow) -> None:
        self._num_steps += 1
        if self._num_steps <= MAX_STEPS:
            self._span.add_event(
                "engine.step",
                {
                    "step": record.step,
                    "choice": self._open[row.request_id],
                    "kind": row.kind.value,
                    "tokens": row.num_tokens,
                    "cached_tokens": row.num_cached_tokens,
                    "batch": len(record.rows) + record.num_hidden_rows,
                    "waiting": record.num_waiting,
                    "ms": record.total_ms,
                },
                timestamp=int(record.started_at * 1e9),
            )
        if row.request_id in record.finished:
            del self._open[row.request_id]
            self._steps.leave([row.request_id])
            if not self._open and self._ended_at is not None:
                self._finish()

    def _finish(self) -> None:
        if not self._span.is_recording():
            return  # it has ended: the last step came in time
        self._steps.leave(self._open)
        if self._num_steps > MAX_STEPS:
            self._span.set_attribute("thirdeye.steps_left_out", self._num_steps - MAX_STEPS)
        self._span.end(end_time=self._ended_at)


def otlp_tracer(endpoint: str, version: str) -> OtelTracer:
    """Spans to a collector, sent in the background. Raises `TracingUnavailable`."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TracingUnavailable(
            "'--otlp-traces-endpoint' wants the packages of OpenTelemetry: "
            f"pip install 'thirdeye-server[otel]' ({error})."
        ) from error
    # A collector that is gone is told again with every batch, every few seconds.
    logging.getLogger(EXPORTER_LOG).addFilter(Seldom(60.0, level=logging.ERROR))
    resource = Resource.create({"service.version": version})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "thirdeye"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
    return OtelTracer(provider)
