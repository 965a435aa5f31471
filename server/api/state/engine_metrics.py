"""What the engine and the queue say at the moment of a scrape, as Prometheus' families."""

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.api.state.token_totals import TokenTotals
from thirdeye.server.engine.interface.engine_stats import (
    STEP_TOKENS_BOUNDS,
    EngineStats,
)
from thirdeye.server.engine.interface.types import EngineInfo


class StateCollector(Collector):
    """Asked by the registry; touches no lock."""

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
        yield _blocks_by_window(stats, state.engine.info, model)
        yield from _states(stats, state.engine.info, model)
        yield from _adapters(state, stats, state.engine.info, model)
        yield _cache_config(state.engine.info, model)
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
        yield _gauge("spec_decode_is_paused", stats.is_draft_paused, model)


def model_name(state: ServerState) -> str:
    return state.model.names[0] if state.model else state.name


def help_of(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _gauge(name: str, value: float, model: str) -> Metric:
    family = GaugeMetricFamily(f"thirdeye_{name}", help_of(name), labels=["model_name"])
    family.add_metric([model], value)
    return family


def _counter(name: str, value: float, model: str) -> Metric:
    family = CounterMetricFamily(f"thirdeye_{name}", help_of(name), labels=["model_name"])
    family.add_metric([model], value)
    return family


def _states(stats: EngineStats, info: EngineInfo, model: str) -> Iterator[Metric]:
    """Of layers that keep one in place of keys and values; zeros where there are none."""
    usage = stats.num_states_used / max(info.num_states, 1)
    yield _gauge("state_cache_usage_perc", usage, model)
    yield _gauge("state_snapshot_bytes", stats.num_snapshots * info.state_bytes, model)
    yield _counter("state_snapshot_hits", stats.snapshot_hits_total, model)
    yield _counter("state_snapshot_missed_tokens", stats.snapshot_missed_tokens_total, model)


def _adapters(
    state: ServerState, stats: EngineStats, info: EngineInfo, model: str
) -> Iterator[Metric]:
    """How many are loaded, and as labels of a one, as vLLM has them, those that run and wait."""
    yield _gauge("lora_adapters", stats.num_adapters, model)
    yield _gauge("lora_adapter_slots", info.max_adapters, model)
    yield _gauge("lora_memory_bytes", stats.adapter_bytes, model)
    name = "lora_requests_info"
    labels = ["model_name", "max_lora", "running_lora_adapters", "waiting_lora_adapters"]
    family = GaugeMetricFamily(f"thirdeye_{name}", help_of(name), labels=labels)
    known = state.model.adapters if state.model else None
    running, waiting = (
        ",".join(known.named(number) if known else str(number) for number in numbers)
        for numbers in (stats.running_adapters, stats.waiting_adapters)
    )
    family.add_metric([model, str(info.max_adapters), running, waiting], 1)
    yield family


def _cache_config(info: EngineInfo, model: str) -> Metric:
    """How large the cache is, as labels of a one: what vLLM calls so, on a CPU too."""
    name, labels = "cache_config_info", ["model_name", "block_size", "num_gpu_blocks"]
    family = GaugeMetricFamily(f"thirdeye_{name}", help_of(name), labels=labels)
    family.add_metric([model, str(info.block_size), str(info.num_whole_blocks)], 1)
    return family


def _blocks_by_window(stats: EngineStats, info: EngineInfo, model: str) -> Metric:
    """Those in use, by how many tokens their layers see; 0: all."""
    name, labels = "kv_cache_blocks_used", ["model_name", "window"]
    family = GaugeMetricFamily(f"thirdeye_{name}", help_of(name), labels=labels)
    used = Counter[int]()
    counts = stats.num_blocks_by_group or [stats.num_blocks_used]  # or before the first step
    for window, count in zip(info.windows, counts, strict=False):
        used[window] += count
    for window, count in sorted(used.items()):
        family.add_metric([model, str(window)], count)
    return family


def _rejections(state: ServerState, model: str) -> Metric:
    """Requests that got no place: one family, as Prometheus wants each name once."""
    name = "thirdeye_admission_rejections"
    family = CounterMetricFamily(
        name, help_of("admission_rejections"), labels=["model_name", "reason"]
    )
    timeouts = state.engine.stats().queue_timeouts_total if state.engine else 0
    family.add_metric([model, "queue_full"], state.admission.num_rejected)
    family.add_metric([model, "rate_limit"], 0 if state.shares_rates else state.rates.num_rejected)
    family.add_metric([model, "queue_timeout"], timeouts)
    return family


def _startup(state: ServerState, model: str) -> Metric:
    """How long the server took until it was ready: describing the model, loading the engine."""
    name = "startup_time_seconds"
    family = GaugeMetricFamily(f"thirdeye_{name}", help_of(name), labels=["model_name", "phase"])
    for phase, seconds in state.startup_seconds.items():
        family.add_metric([model, phase], seconds)
    return family


def _stages(stats: EngineStats, model: str) -> Metric:
    """Where the engine's steps spend their time; on a GPU, sampling waits for the model."""
    name = "scheduler_stage_seconds"
    family = CounterMetricFamily(f"thirdeye_{name}", help_of(name), labels=["model_name", "stage"])
    family.add_metric([model, "schedule"], stats.schedule_seconds_total)
    family.add_metric([model, "draft"], stats.draft_seconds_total)
    family.add_metric([model, "forward"], stats.forward_seconds_total)
    family.add_metric([model, "sample"], stats.sample_seconds_total)
    family.add_metric([model, "emit"], stats.emit_seconds_total)
    return family


def _missed_paths(stats: EngineStats, model: str) -> Metric:
    """Steps that went without a fast path, which does not apply to this model or machine."""
    name = "fast_path_missed_steps"
    labels = ["model_name", "path", "reason"]
    family = CounterMetricFamily(f"thirdeye_{name}", help_of(name), labels=labels)
    for missed in stats.missed_paths:
        family.add_metric([model, missed.path, missed.reason], missed.num_steps)
    return family


def _step_tokens(stats: EngineStats, model: str) -> Metric:
    """Tokens per engine step, under vLLM's name; Prometheus wants each bucket to hold the last."""
    name = "iteration_tokens_total"
    family = HistogramMetricFamily(f"thirdeye_{name}", help_of(name), labels=["model_name"])
    bounds = [*(str(float(bound)) for bound in STEP_TOKENS_BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(stats.step_tokens_counts), strict=True))
    family.add_metric([model], buckets, sum_value=stats.step_tokens_total)
    return family
