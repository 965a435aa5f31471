"""The metrics under vLLM's names: the same numbers, and only where they mean the same."""

import asyncio
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.support import CHAT, client_over, fake_engine, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.vllm_names import NAMES

LOAD_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")


def scrape(*, vllm: bool) -> str:
    """After one answer."""

    async def main() -> str:
        config = ApiConfig(vllm_metrics=vllm)
        async with client_over(ready_state(fake_engine()), config) as client:
            await client.post("/v1/chat/completions", json=CHAT)
            return (await client.get("/metrics")).text

    return asyncio.run(main())


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_alias_has_the_numbers_of_ours() -> None:
    found = samples(scrape(vllm=True))
    compared: set[str] = set()
    for (name, labels), value in found.items():
        for ours, theirs in NAMES.items():
            if ending := re.fullmatch(rf"{ours}((_total|_bucket|_sum|_count)?)", name):
                for alias in theirs:
                    assert found[alias + ending[1], labels] == value
                    compared.add(alias)
    # the fake engine counts no tokens of steps
    assert compared == {a for them in NAMES.values() for a in them} - {
        "vllm:iteration_tokens_total"
    }
    assert {f"vllm:{name}" for name in LOAD_GAUGES} | {"vllm:gpu_cache_usage_perc"} <= compared


def test_nothing_else_has_such_a_name_and_none_without_the_option() -> None:
    names = {name for name, _ in samples(scrape(vllm=True)) if name.startswith("vllm:")}
    bare = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names}
    assert bare <= {alias for them in NAMES.values() for alias in them}
    assert "vllm:" not in scrape(vllm=False)


@pytest.mark.parametrize("name", ["inter_token_latency_seconds", "request_success"])
def test_what_means_something_else_there_has_no_such_name(name: str) -> None:
    assert f"vllm:{name}" not in scrape(vllm=True)


def test_the_size_of_the_cache_is_told_as_there() -> None:
    """A gateway takes the blocks that are free from these labels and the share that is used."""
    (family,) = (
        family
        for family in text_string_to_metric_families(scrape(vllm=True))
        if family.name == "vllm:cache_config_info"
    )
    (sample,) = family.samples
    assert sample.labels == {"model_name": "tiny", "block_size": "16", "num_gpu_blocks": "128"}
    assert sample.value == 1
