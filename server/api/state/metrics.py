"""Prometheus metrics, prefix `thirdeye_`; meanings and units as vLLM's, so that dashboards port.

Two sources: the engine's own counters, read when somebody scrapes (`engine_metrics.py`), and the
requests, counted as they end; their tokens as they come. A registry of our own: two apps in one
process do not meet.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from thirdeye.server.api.state.engine_metrics import StateCollector, help_of, model_name
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.api.state.token_totals import TokenTotals
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.api.state.vllm_names import VllmNames

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)


class Metrics:
    """All metrics of one app, labelled with the model's name."""

    def __init__(self, state: ServerState, *, has_vllm_names: bool = False) -> None:
        """With `has_vllm_names` they are there twice: see `vllm_names.py`."""
        self._state = state
        self._registry = CollectorRegistry()
        self._tokens = TokenTotals()
        self._registry.register(StateCollector(state, self._tokens))
        self._shown = [self._registry]
        if has_vllm_names:
            self._shown.append(CollectorRegistry())
            self._shown[-1].register(VllmNames(self._registry))
        self._succeeded = self._counter("request_success", "finished_reason")
        self._aborted = self._counter("num_aborted_requests")
        self._responses = self._counter("http_responses", "route", "status")
        self._counted: dict[tuple[str, ...], Counter] = {}  # of these, by their labels
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
        self._grammar_timeouts.labels(model).inc(is_too_slow)  # 0 shows it, too

    def responded(self, route: str, status: int) -> None:
        labels = (model_name(self._state), route, str(status))
        if (counter := self._counted.get(labels)) is None:
            counter = self._counted[labels] = self._responses.labels(*labels)
        counter.inc()

    @property
    def registries(self) -> list[CollectorRegistry]:
        """What a scrape shows, one after the other."""
        return self._shown

    def scrape(self) -> tuple[bytes, str]:
        """The text format and its content type."""
        return b"".join(map(generate_latest, self._shown)), CONTENT_TYPE_LATEST

    def _counter(self, name: str, *labels: str) -> Counter:
        names = ("model_name", *labels)
        return Counter(f"thirdeye_{name}", help_of(name), names, registry=self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"thirdeye_{name}",
            help_of(name),
            ("model_name",),
            buckets=buckets,
            registry=self._registry,
        )
