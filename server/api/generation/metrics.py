"""Prometheus metrics, prefix `thirdeye_`; meanings and units as vLLM's, so that dashboards port.

Two sources: the engine's own counters, read when somebody scrapes, and the requests, counted as
they end; their tokens as they come. A registry of our own: two apps in one process do not meet.
"""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from thirdeye.server.api.generation.server_state import ServerState
from thirdeye.server.api.generation.usage import Tally
from thirdeye.server.engine.interface.types import STEP_TOKENS_BOUNDS, EngineStats

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class TokenTotals:
    """Tokens of prompts and answers as their callers are told in `usage`, so far.

    The engine counts otherwise: a prompt once for each of its samples, and of an answer that a stop
    string ended also what it had begun to go on with.
    """

    def __init__(self) -> None:
        self._open: set[Tally] = set()
        self._prompt = self._generated = 0  # of those that ended

    def begin(self, tally: Tally) -> None:
        self._open.add(tally)

    def end(self, tally: Tally) -> None:
        self._open.remove(tally)
        self._prompt += tally.num_answered_prompt_tokens
        self._generated += tally.num_generated_tokens

    @property
    def prompt(self) -> int:
        return self._prompt + sum(tally.num_answered_prompt_tokens for tally in self._open)

    @property
    def generated(self) -> int:
        return self._generated + sum(tally.num_generated_tokens for tally in self._open)


class Metrics:
    """All metrics of one app, labelled with the model's name."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._registry = CollectorRegistry()
        self._tokens = TokenTotals()
        self._registry.register(StateCollector(state, self._tokens))
        self._succeeded = self._counter("request_success", "finished_reason")
        self._aborted = self._counter("num_aborted_requests")
        self._responses = self._counter("http_responses", "route", "status")
        self._ttft = self._histogram("time_to_first_token_seconds", _SECONDS)
        self._gap = self._histogram("inter_token_latency_seconds", _GAP_SECONDS)
        self._e2e = self._histogram("e2e_request_latency_seconds", _SECONDS)
        self._queue = self._histogram("request_queue_time_seconds", _SECONDS)
        self._prefill = self._histogram("request_prefill_time_seconds", _SECONDS)
        self._decode = self._histogram("request_decode_time_seconds", _SECONDS)
        self._prompt = self._histogram("request_prompt_tokens", _TOKENS)
        self._generated = self._histogram("request_generation_tokens", _TOKENS)
        self._grammar = self._histogram("grammar_compile_seconds", _GAP_SECONDS)
        self._grammar_timeouts = self._counter("grammar_timeouts")

    def request_began(self, tally: Tally) -> None:
        self._tokens.begin(tally)

    def request_ended(self, tally: Tally, size: int) -> None:
        """Count a generation request of `size` choices; those without an end were left."""
        self._tokens.end(tally)
        model = model_name(self._state)
        for reason in tally.outcomes.values():
            self._succeeded.labels(model, str(reason)).inc()
        self._aborted.labels(model).inc(size - len(tally.finish_reasons))
        self._prompt.labels(model).observe(tally.num_prompt_tokens)
        self._generated.labels(model).observe(tally.num_generated_tokens)
        t = tally.engine_timings
        if t is None:
            return
        self._queue.labels(model).observe(t.queue_ms / 1000)
        self._prefill.labels(model).observe(t.prefill_ms / 1000)
        self._decode.labels(model).observe(t.decode_ms / 1000)
        self._ttft.labels(model).observe((t.queue_ms + t.prefill_ms) / 1000)
        self._e2e.labels(model).observe(t.total_ms / 1000)
        if (num_gaps := tally.num_generated_tokens // size - 1) > 0:
            self._gap.labels(model).observe(t.decode_ms / 1000 / num_gaps)

    def grammar_compiled(self, seconds: float, is_too_slow: bool) -> None:
        model = model_name(self._state)
        self._grammar.labels(model).observe(seconds)
        if is_too_slow:
            self._grammar_timeouts.labels(model).inc()

    def responded(self, route: str, status: int) -> None:
        self._responses.labels(model_name(self._state), route, str(status)).inc()

    def scrape(self) -> tuple[bytes, str]:
        """The text format and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, *labels: str) -> Counter:
        names = ("model_name", *labels)
        return Counter(f"thirdeye_{name}", _help(name), names, registry=self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"thirdeye_{name}",
            _help(name),
            ("model_name",),
            buckets=buckets,
            registry=self._registry,
        )


class StateCollector(Collector):
    """What the engine and the queue say at the moment of the scrape; touches no lock."""

    def __init__(self, state: ServerState, tokens: TokenTotals) -> None:
        self._state = state
        self._tokens = tokens

    def collect(self) -> Iterator[Metric]:
        state, model = self._state, model_name(self._state)
        yield _rejections(state, model)
        yield _startup(state, model)
        if state.engine is None:
            return
        stats = state.engine.stats()
        usage = stats.num_blocks_used / max(stats.num_blocks_total, 1)
        yield _gauge("num_ranks", state.engine.info.num_ranks, model)
        yield _gauge("num_requests_running", stats.num_requests_running, model)
        yield _gauge("num_requests_waiting", stats.num_requests_waiting, model)
        yield _gauge("kv_cache_usage_perc", usage, model)
        yield _gauge("engine_last_step_age_seconds", state.engine.stalled_seconds(), model)
        yield _counter("prompt_tokens", self._tokens.prompt, model)
        yield _counter("generation_tokens", self._tokens.generated, model)
        yield _counter("prefix_cache_queries", stats.prefix_cache_queries_total, model)
        yield _counter("prefix_cache_hits", stats.prefix_cache_hits_total, model)
        yield _counter("num_preemptions", stats.preemptions_total, model)
        yield _stages(stats, model)
        yield _missed_paths(stats, model)
        yield _counter("scheduler_idle_seconds", stats.idle_seconds_total, model)
        if stats.step_tokens_counts:
            yield _step_tokens(stats, model)
        drafted, accepted = (
            stats.spec_decode_num_draft_tokens_total,
            stats.spec_decode_num_accepted_tokens_total,
        )
        yield _counter("spec_decode_num_draft_tokens", drafted, model)
        yield _counter("spec_decode_num_accepted_tokens", accepted, model)


def model_name(state: ServerState) -> str:
    return state.model.names[0] if state.model else ""


def _help(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _gauge(name: str, value: float, model: str) -> Metric:
    family = GaugeMetricFamily(f"thirdeye_{name}", _help(name), labels=["model_name"])
    family.add_metric([model], value)
    return family


def _counter(name: str, value: float, model: str) -> Metric:
    family = CounterMetricFamily(f"thirdeye_{name}", _help(name), labels=["model_name"])
    family.add_metric([model], value)
    return family


def _rejections(state: ServerState, model: str) -> Metric:
    """Requests that got no place: one family, as Prometheus wants each name once."""
    name = "thirdeye_admission_rejections"
    family = CounterMetricFamily(
        name, _help("admission_rejections"), labels=["model_name", "reason"]
    )
    timeouts = state.engine.stats().queue_timeouts_total if state.engine else 0
    family.add_metric([model, "queue_full"], state.admission.num_rejected)
    family.add_metric([model, "rate_limit"], state.rates.num_rejected)
    family.add_metric([model, "queue_timeout"], timeouts)
    return family


def _startup(state: ServerState, model: str) -> Metric:
    """How long the server took until it was ready: describing the model, loading the engine."""
    name = "startup_time_seconds"
    family = GaugeMetricFamily(f"thirdeye_{name}", _help(name), labels=["model_name", "phase"])
    for phase, seconds in state.startup_seconds.items():
        family.add_metric([model, phase], seconds)
    return family


def _stages(stats: EngineStats, model: str) -> Metric:
    """Where the engine's steps spend their time; on a GPU, sampling waits for the model."""
    name = "scheduler_stage_seconds"
    family = CounterMetricFamily(f"thirdeye_{name}", _help(name), labels=["model_name", "stage"])
    family.add_metric([model, "schedule"], stats.schedule_seconds_total)
    family.add_metric([model, "forward"], stats.forward_seconds_total)
    family.add_metric([model, "sample"], stats.sample_seconds_total)
    family.add_metric([model, "emit"], stats.emit_seconds_total)
    return family


def _missed_paths(stats: EngineStats, model: str) -> Metric:
    """Steps that went without a fast path, which does not apply to this model or machine."""
    name = "fast_path_missed_steps"
    labels = ["model_name", "path", "reason"]
    family = CounterMetricFamily(f"thirdeye_{name}", _help(name), labels=labels)
    for missed in stats.missed_paths:
        family.add_metric([model, missed.path, missed.reason], missed.num_steps)
    return family


def _step_tokens(stats: EngineStats, model: str) -> Metric:
    """Tokens per engine step, under vLLM's name; Prometheus wants each bucket to hold the last."""
    name = "iteration_tokens_total"
    family = HistogramMetricFamily(f"thirdeye_{name}", _help(name), labels=["model_name"])
    bounds = [*(str(float(bound)) for bound in STEP_TOKENS_BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(stats.step_tokens_counts), strict=True))
    family.add_metric([model], buckets, sum_value=stats.step_tokens_total)
    return family
