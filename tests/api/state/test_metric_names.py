"""The names that dashboards and autoscalers read: vLLM's behind our prefix."""

import re

import msgspec

from tests.api.support import fake_engine, ready_state
from thirdeye.server.api.state.metrics import Metrics
from thirdeye.server.engine.interface.engine_stats import (
    STEP_TOKENS_BOUNDS,
    MissedPath,
)

NAMES = [
    "num_ranks",
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "kv_cache_blocks_used",
    "cache_config_info",
    "state_cache_usage_perc",
    "state_snapshot_bytes",
    "state_snapshot_hits_total",
    "state_snapshot_missed_tokens_total",
    "engine_last_step_age_seconds",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "num_preemptions_total",
    "iteration_tokens_total",
    "request_success_total",
    "num_aborted_requests_total",
    "admission_rejections_total",
    "http_responses_total",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "scheduler_stage_seconds_total",
    "scheduler_idle_seconds_total",
    "fast_path_missed_steps_total",
    "startup_time_seconds",
    "grammar_compile_seconds",
    "grammar_timeouts_total",
]


def test_every_name_is_there(monkeypatch) -> None:
    """Before the first request too: a dashboard must not have holes."""
    engine = fake_engine()
    counts = [0] * (len(STEP_TOKENS_BOUNDS) + 1)
    stats = msgspec.structs.replace(engine.stats(), step_tokens_counts=counts)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    text = Metrics(ready_state(engine)).scrape()[0].decode()
    found = set(re.findall(r"^# TYPE thirdeye_(\w+) ", text, re.MULTILINE))
    assert found >= set(NAMES)


def test_steps_without_a_fast_path_are_counted_with_its_reason(monkeypatch) -> None:
    engine = fake_engine()
    missed = [MissedPath("tape", "aten.relu.default", 7)]
    stats = msgspec.structs.replace(engine.stats(), missed_paths=missed)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    text = Metrics(ready_state(engine)).scrape()[0].decode()
    (line,) = re.findall(r"^thirdeye_fast_path_missed_steps_total{.*$", text, re.MULTILINE)
    assert 'path="tape",reason="aten.relu.default"' in line
    assert line.endswith(" 7.0")


def test_states_are_counted_in_rows_and_bytes(monkeypatch) -> None:
    engine = fake_engine()
    counts = {"num_states_used": 3, "num_snapshots": 5, "snapshot_hits_total": 7}
    stats = msgspec.structs.replace(engine.stats(), **counts, snapshot_missed_tokens_total=32)
    info = msgspec.structs.replace(engine.info, num_states=12, state_bytes=1000)
    monkeypatch.setattr(engine, "stats", lambda: stats)
    monkeypatch.setattr(type(engine), "info", info)
    text = Metrics(ready_state(engine)).scrape()[0].decode()
    found = dict(re.findall(r"^thirdeye_(state_\w+){.*} (.+)$", text, re.MULTILINE))
    assert found == {
        "state_cache_usage_perc": "0.25",
        "state_snapshot_bytes": "5000.0",
        "state_snapshot_hits_total": "7.0",
        "state_snapshot_missed_tokens_total": "32.0",
    }
