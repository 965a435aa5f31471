"""The metrics under vLLM's names, for what reads those: gateways, autoscalers, dashboards.

Only where ours and theirs mean the same. vLLM's histogram of gaps has an entry for every gap, ours
one for every request, the mean of its gaps: that is vLLM's `request_time_per_output_token_seconds`.
Its `request_success` has other reasons than ours, so it has no other name here.
"""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

OURS, THEIRS = "thirdeye_", "vllm:"
SAME = (
    *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions"),
    *("cache_config_info", "lora_requests_info"),
    *("prefix_cache_queries", "prefix_cache_hits", "prompt_tokens", "generation_tokens"),
    *("iteration_tokens_total", "request_prompt_tokens", "request_generation_tokens"),
    *("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"),
    *("request_prefill_time_seconds", "request_decode_time_seconds"),
    *("spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens"),
)
NAMES = {OURS + name: (THEIRS + name,) for name in SAME} | {
    OURS + "kv_cache_usage_perc": (
        THEIRS + "kv_cache_usage_perc",
        THEIRS + "gpu_cache_usage_perc",  # until vLLM 0.10
    ),
    OURS + "inter_token_latency_seconds": (THEIRS + "request_time_per_output_token_seconds",),
}


class VllmNames(Collector):
    """The families of another registry that have a name there."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def describe(self) -> list[Metric]:
        """None known beforehand: else registering this would collect them all."""
        return []

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            for name in NAMES.get(family.name, ()):
                yield _renamed(family, name)


def _renamed(family: Metric, name: str) -> Metric:
    other = Metric(name, family.documentation, family.type)
    for sample in family.samples:
        ending = sample.name.removeprefix(family.name)  # `_total`, `_bucket`, ...
        other.samples.append(sample._replace(name=name + ending))
    return other
