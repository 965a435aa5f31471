"""The names that routers and autoscalers read, each with where it asks: all are there, and of the
type that it expects. Read in the sources of November 2026."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.support import CHAT, client_over, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig

ASKED = [  # name, type, labels, who
    ("vllm:num_requests_running", "gauge", (), "SMG 1.13, model_gateway/src/worker/monitor.rs"),
    ("vllm:num_requests_waiting", "gauge", (), "SMG 1.13, the same"),
    ("vllm:kv_cache_usage_perc", "gauge", (), "SMG 1.13, the same; it is the load"),
    ("vllm:gpu_cache_usage_perc", "gauge", (), "production-stack, stats/engine_stats.py"),
    ("vllm:num_requests_waiting", "gauge", (), "llm-d, pkg/epp/server/options.go"),
    ("vllm:num_requests_running", "gauge", (), "llm-d, the same"),
    ("vllm:kv_cache_usage_perc", "gauge", (), "llm-d, the same"),
    ("vllm:cache_config_info", "gauge", ("block_size", "num_gpu_blocks"), "llm-d, the same"),
    ("thirdeye_num_requests_waiting", "gauge", (), "deploy/kubernetes/keda.yaml"),
    ("thirdeye_num_requests_running", "gauge", (), "deploy/kubernetes/keda.yaml"),
]


@pytest.fixture(scope="module")
def families() -> dict[str, object]:
    async def scrape() -> str:
        config = ApiConfig(vllm_metrics=True)
        async with client_over(ready_state(fake_engine()), config) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).is_success
            return (await client.get("/metrics")).text

    found = text_string_to_metric_families(asyncio.run(scrape()))
    return {family.name: family for family in found}


@pytest.mark.parametrize(("name", "kind", "labels", "who"), ASKED)
def test_what_is_asked_for_is_there(
    families: dict[str, object], name: str, kind: str, labels: tuple[str, ...], who: str
) -> None:
    family = families.get(name)
    assert family is not None, f"{who} asks for it"
    assert family.type == kind, who  # type: ignore[attr-defined]  # a family
    for sample in family.samples:  # type: ignore[attr-defined]
        assert set(labels) <= sample.labels.keys(), who
