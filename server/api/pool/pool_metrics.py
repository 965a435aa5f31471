"""The metrics of all models of a pool: each family once, each sample with its model's name."""

from collections.abc import Iterable, Iterator
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.model_terms import HOLDING, ModelPhase
from thirdeye.server.api.state.metrics import Metrics


class Merged:
    """Several registries as one: Prometheus wants all samples of a name together."""

    def __init__(self, registries: Iterable[CollectorRegistry]) -> None:
        self._registries = list(registries)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for registry in self._registries:
            for family in registry.collect():
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples.extend(family.samples)
        yield from families.values()


def scrape(pool: ModelPool, own: Metrics) -> tuple[bytes, str]:
    """The text format and its content type. `own`: of requests that reached no model."""
    all_of_them = [own, *(member.metrics for member in pool.members.values())]
    shown = zip(*(metrics.registries for metrics in all_of_them), strict=True)
    parts = [Merged(registries) for registries in shown] + [PoolFamilies(pool)]
    text = b"".join(generate_latest(cast(CollectorRegistry, part)) for part in parts)
    return text, CONTENT_TYPE_LATEST


class PoolFamilies:
    """What a pool knows of its models, whether they are there or not."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        pool = self._pool
        labels = ["model_name"]
        states = GaugeMetricFamily(
            "thirdeye_model_state", "1 for the state it is in", labels=[*labels, "state"]
        )
        held = GaugeMetricFamily(
            "thirdeye_model_memory_bytes", "Memory that it holds now", labels=labels
        )
        waiting = GaugeMetricFamily(
            "thirdeye_model_waiting_requests", "Requests that wait for it", labels=labels
        )
        loads = CounterMetricFamily("thirdeye_model_loads", "Times it was loaded", labels=labels)
        behind = GaugeMetricFamily(
            "thirdeye_model_gives_way", "1 while it computes behind others", labels=labels
        )
        for name, books in pool.residency.models.items():
            for phase in ModelPhase:
                states.add_metric([name, phase], phase is books.phase)
            held.add_metric([name], books.terms.num_bytes if books.phase in HOLDING else 0)
            waiting.add_metric([name], len(books.waiting))
            loads.add_metric([name], pool.num_loads[name])
            behind.add_metric([name], name in pool.behind)
        limit = GaugeMetricFamily("thirdeye_memory_limit_bytes", "Memory that models may take")
        limit.add_metric([], pool.residency.max_bytes)
        yield from (states, held, waiting, loads, behind, limit)
