"""What an expression of Prometheus asks for, and whether `/metrics` has it."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec
import promql_parser
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.pool.fakes import member
from tests.api.support import CHAT, client_over, fake_engine, ready_state
from thirdeye.server.api.pool.model_pool import ModelPool
from thirdeye.server.api.pool.pool_metrics import PoolFamilies
from thirdeye.server.engine.interface.engine_stats import STEP_TOKENS_BOUNDS, MissedPath

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OF_PROMETHEUS = {"instance", "job"}  # labels that it adds to all that it scrapes
SCRAPED = {"up": {}}  # and a series of its own
INTERVAL = re.compile(r"\$__rate_interval\b")  # Grafana's: a time

Labels = Mapping[str, set[str]]  # the values that each has


@cache
def shown() -> dict[str, Labels]:
    """The series of a server that has answered, and of one of several models, by name."""

    async def scrape() -> str:
        engine = fake_engine()
        state = ready_state(engine)
        state.startup_seconds = {"describe": 1.0, "load": 1.0}
        stats = msgspec.structs.replace(
            engine.stats(),
            step_tokens_counts=[0] * (len(STEP_TOKENS_BOUNDS) + 1),
            missed_paths=[MissedPath("tape", "a reason", 7)],
        )
        engine.stats = lambda: stats  # type: ignore[method-assign]
        async with client_over(state) as client:
            grammar = {"response_format": {"type": "json_object"}}
            answer = await client.post("/v1/chat/completions", json=CHAT | grammar)
            assert answer.status_code == 200, answer.text
            return (await client.get("/metrics")).text

    pool = ModelPool([member("a")[0], member("b")[0]], 2)
    of_a_pool = generate_latest(cast(CollectorRegistry, PoolFamilies(pool))).decode()
    found: dict[str, dict[str, set[str]]] = {}
    for text in (asyncio.run(scrape()), of_a_pool):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return {**found, **SCRAPED}


def problems(expression: str) -> list[str]:
    """Why it shows nothing or not what it should; also what is no PromQL at all."""
    try:
        parsed = promql_parser.parse(INTERVAL.sub("5m", expression))
    except ValueError as error:
        return [f"{error}: {expression}"]
    selectors = list(_nodes(parsed, promql_parser.VectorSelector))
    found = [problem for selector in selectors for problem in _problems_of(selector)]
    if not selectors:
        found.append(f"no metric in {expression}")
    known = set().union(*(shown().get(selector.name, {}) for selector in selectors))
    for node in _nodes(parsed, promql_parser.AggregateExpr):
        names = set(node.modifier.labels) if node.modifier else set()
        if unknown := names - known - OF_PROMETHEUS:
            found.append(f"no metric of {expression} has {sorted(unknown)}")
    calls = {call.func.name for call in _nodes(parsed, promql_parser.Call)}
    if "histogram_quantile" in calls and "_bucket" not in expression:
        found.append(f"no buckets in {expression}")
    return found


def metrics_in(expression: str) -> set[str]:
    parsed = promql_parser.parse(INTERVAL.sub("5m", expression))
    return {selector.name for selector in _nodes(parsed, promql_parser.VectorSelector)}


def _problems_of(selector: Any) -> Iterator[str]:
    labels = shown().get(selector.name)
    if labels is None:
        yield f"/metrics has no {selector.name}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name in OF_PROMETHEUS:
            continue
        if matcher.name not in labels:
            yield f"{selector.name} has no label {matcher.name}"
        elif re.fullmatch(r"[\w|]+", matcher.value):  # words: each must be a value
            for value in set(matcher.value.split("|")) - labels[matcher.name]:
                yield f"{selector.name} has no {matcher.name} {value}"


def _nodes(node: Any, kind: type) -> Iterator[Any]:
    """All of a kind below, by the names that the parser gives to what is inside."""
    if isinstance(node, kind):
        yield node
    for name in ("lhs", "rhs", "expr", "args", "vector_selector", "vs", "param"):
        inside = getattr(node, name, None)
        for one in inside if isinstance(inside, list) else [inside]:
            if one is not None:
                yield from _nodes(one, kind)
