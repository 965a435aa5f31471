"""A span for each request, with the engine's steps in it; and nothing where it is off."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from tests.api.support import (
    CHAT,
    client_over,
    fake_engine,
    ready_state,
    says,
)
from tests.engine.process.fake_engine import FakeEngine
from tests.server.tracing.collector import attributes_of, running_collector
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.tracing import otel_tracer
from thirdeye.server.tracing.otel_tracer import (
    MAX_STEPS,
    OtelTracer,
    TracingUnavailable,
    otlp_tracer,
)

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRETS = ("canary-prompt", "canary-answer", "alices-key")
CONFIG = ApiConfig(api_keys=("alice use,operate alices-key", "bob use bobs-key"))


def traced(
    requests: list[dict[str, Any]],
    engine: FakeEngine | None = None,
    config: ApiConfig = CONFIG,
    **provider: Any,
) -> tuple[list[ReadableSpan], list[httpx.Response]]:
    """The spans and the answers of requests, one after the other."""
    exporter = InMemorySpanExporter()
    provider_ = TracerProvider(shutdown_on_exit=False, **provider)
    provider_.add_span_processor(SimpleSpanProcessor(exporter))
    engine = engine or fake_engine(says("canary-answer"))

    async def main() -> list[httpx.Response]:
        tracer = OtelTracer(provider_)
        answers = []
        async with (
            asyncio.timeout(30),
            client_over(ready_state(engine), config, tracer=tracer) as client,
        ):
            for request in requests:
                headers = {"x-api-key": "alices-key"} | request.pop("headers", {})
                answers.append(await client.request(headers=headers, **request))
            await last_steps(tracer)
        return answers

    answers = asyncio.run(main())
    return list(exporter.get_finished_spans()), answers


async def last_steps(tracer: OtelTracer) -> None:
    """Until no span waits for the record of its last step."""
    while tracer._steps._reader is not None:
        await asyncio.sleep(0)


def chat(**fields: Any) -> dict[str, Any]:
    return {"method": "POST", "url": "/v1/chat/completions", "json": CHAT | fields}


def test_one_span_a_request_with_a_steps_event_each() -> None:
    before = time.time_ns()
    (span,), (answer,) = traced([chat(messages=[{"role": "user", "content": "canary-prompt"}])])
    usage = answer.json()["usage"]
    assert (span.name, span.kind) == ("POST /v1/chat/completions", SpanKind.SERVER)
    assert span.status.status_code is not StatusCode.ERROR
    found = dict(span.attributes or {})
    assert found == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "thirdeye.request_id": answer.headers["x-request-id"],
        "thirdeye.key": "alice",
        "thirdeye.cached_tokens": 0,
        "gen_ai.request.model": "tiny",
        "gen_ai.response.id": answer.json()["id"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
    }
    steps = [dict(event.attributes or {}) for event in span.events]
    assert {event.name for event in span.events} == {"engine.step"}
    assert [step["kind"] for step in steps] == ["prefill"] + ["decode"] * (len(steps) - 1)
    assert len(steps) == usage["completion_tokens"]
    assert steps[0]["tokens"] == usage["prompt_tokens"]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert before <= span.events[0].timestamp <= (span.end_time or 0) <= time.time_ns()
    assert not any(secret in span.to_json() for secret in SECRETS)


def test_choices_are_told_apart_and_requests_do_not_mix() -> None:
    spans, _ = traced([chat(n=3), chat(n=2)])
    for span, n in zip(spans, (3, 2), strict=True):
        choices = [dict(event.attributes or {})["choice"] for event in span.events]
        assert {choice: choices.count(choice) for choice in choices} == dict.fromkeys(
            range(n), len(says("canary-answer"))
        )


def test_a_stream_is_one_span_to_its_last_byte() -> None:
    (span,), (answer,) = traced([chat(stream=True)])
    assert answer.text.endswith("data: [DONE]\n\n")
    assert len(span.events) == len(says("canary-answer"))


@pytest.mark.parametrize("flags", ["01", "00"], ids=["sampled", "not sampled"])
def test_the_callers_trace_goes_on(flags: str) -> None:
    """`traceparent` of W3C: whose part it is, and whether anybody wants it."""
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}"}
    spans, _ = traced([chat() | {"headers": headers}])
    if flags == "00":
        assert spans == []
        return
    (span,) = spans
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID


@pytest.mark.parametrize(
    "header", ["", "00-zz-1-01", "00-" + "0" * 32 + f"-{PARENT_ID}-01", "x" * 9000]
)
def test_a_wrong_traceparent_begins_a_trace_of_its_own(header: str) -> None:
    ((span,), (answer,)) = traced([chat() | {"headers": {"traceparent": header}}])
    assert (answer.status_code, span.parent) == (200, None)


def test_refusals_are_spans_and_probes_are_not() -> None:
    spans, answers = traced(
        [
            *({"method": "GET", "url": url} for url in ("/health", "/ready", "/metrics")),
            chat(max_tokens="many"),
            chat() | {"headers": {"x-api-key": "wrong"}},
            {"method": "GET", "url": "/nothing/of/the/sort"},
        ]
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 401, 404]
    names = [
        (span.name, dict(span.attributes or {})["http.response.status_code"]) for span in spans
    ]
    assert names == [("POST /v1/chat/completions", 400), ("POST other", 401), ("GET other", 404)]
    assert all(span.status.status_code is not StatusCode.ERROR for span in spans)


def test_a_failure_of_ours_is_an_error() -> None:
    engine = fake_engine(error_after=0)
    ((span,), (answer,)) = traced([chat()], engine)
    assert answer.status_code == 500
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["gen_ai.response.finish_reasons"] == ("unfinished",)


def test_a_long_answer_keeps_its_first_steps_and_counts_the_rest() -> None:
    engine = fake_engine([*b"x" * (MAX_STEPS + 20)], tokens_per_step=1)
    ((span,), _) = traced([chat(max_tokens=MAX_STEPS + 20)], engine)
    assert len(span.events) == MAX_STEPS
    assert dict(span.attributes or {})["thirdeye.steps_left_out"] == 20


def test_nobody_watches_an_engine_at_rest() -> None:
    engine = fake_engine()
    traced([chat(), chat()], engine)
    assert engine._step_history.num_readers == 0


def test_without_a_last_record_the_span_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An aborted request has none."""
    monkeypatch.setattr(otel_tracer, "LAST_STEP_SECONDS", 0.0)
    engine = fake_engine()
    monkeypatch.setattr(engine, "_post_step", lambda *_, **__: None)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        serving = client_over(ready_state(engine), CONFIG, tracer=OtelTracer(provider))
        async with asyncio.timeout(30), serving as client:
            await client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": "bobs-key"})
            while not exporter.get_finished_spans():
                await asyncio.sleep(0)

    asyncio.run(main())
    assert engine._step_history.num_readers == 0


def test_what_is_not_sampled_costs_no_watching() -> None:
    engine = fake_engine()
    spans, _ = traced([chat()], engine, sampler=ALWAYS_OFF)
    assert spans == []
    assert engine._step_history.num_readers == 0


def test_a_collector_gets_it_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running_collector() as collector:
        tracer = otlp_tracer(collector.url, "1.2.3")

        async def main() -> None:
            serving = client_over(ready_state(fake_engine()), CONFIG, tracer=tracer)
            async with asyncio.timeout(30), serving as client:
                headers = {"x-api-key": "bobs-key"}
                await client.post("/v1/chat/completions", json=CHAT, headers=headers)
                await last_steps(tracer)

        asyncio.run(main())
        tracer.close()  # hands over what is left
        (span,) = collector.spans
        (resource,) = collector.resources
    assert span.name == "POST /v1/chat/completions"
    assert attributes_of(span)["thirdeye.key"] == "bob"
    assert [event.name for event in span.events] == ["engine.step"] * len(says("Hello!"))
    found = attributes_of(resource.resource)
    assert (found["service.name"], found["service.version"]) == ("thirdeye", "1.2.3")


def test_a_collector_that_is_gone_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    tracer = otlp_tracer("http://127.0.0.1:9/v1/traces", "1")
    log = logging.getLogger(otel_tracer.EXPORTER_LOG)
    for _ in range(3):
        log.warning("Transient error %s", "refused")
        log.error("Failed to export")
    assert [r.levelname for r in caplog.records if r.name == log.name] == ["WARNING", "ERROR"]
    tracer.close()
    assert OTLPSpanExporter.__module__.startswith(log.name)


def test_a_collector_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_tracer, "CLOSE_SECONDS", 0.0)
    provider, released = TracerProvider(shutdown_on_exit=False), threading.Event()
    monkeypatch.setattr(provider, "shutdown", released.wait)
    OtelTracer(provider).close()  # comes back, or this test ends by its time limit
    released.set()


def test_a_service_may_have_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    tracer = otlp_tracer("http://127.0.0.1:9/v1/traces", "1")
    assert tracer._provider.resource.attributes["service.name"] == "ours"
    tracer.close()


def test_without_the_packages_the_way_to_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'thirdeye-server\[otel\]'"):
        otlp_tracer("http://127.0.0.1:9", "1")


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys, thirdeye.server.launch.server_run\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.ex'))])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
