"""The simulation behind docs/cluster.md, at a size for every push: what it says must be so."""

import pytest

from tests.bench.cluster.cluster_sim import (
    Cluster,
    Kept,
    Outcome,
    download_seconds,
    scrape_cost,
    simulate,
)

SMALL = Cluster(replicas=20, requests=4_000, tenants=200)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    names = ("random", "conversation, bounded", "system prompt", "system prompt, bounded")
    return {name: simulate(SMALL, name) for name in names}


def test_who_goes_by_the_conversation_finds_it_again(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["conversation, bounded"].cached > outcomes["random"].cached + 0.2


def test_a_hot_prefix_fills_one_replica_unless_loads_are_bounded(
    outcomes: dict[str, Outcome],
) -> None:
    limit = 1.25 * SMALL.under_way + 2
    assert outcomes["system prompt"].most_under_way > 2 * limit
    assert outcomes["system prompt, bounded"].most_under_way <= limit
    assert outcomes["conversation, bounded"].most_under_way <= limit


def test_the_same_seed_says_the_same() -> None:
    assert simulate(SMALL, "random") == simulate(SMALL, "random")


def test_a_cache_keeps_what_was_used_last() -> None:
    kept = Kept(10)
    kept.keep("a", 4)
    kept.keep("b", 4)
    assert kept.tokens_of("a") == 4
    kept.keep("c", 4)
    assert (kept.tokens_of("a"), kept.tokens_of("b"), kept.tokens_of("c")) == (4, 0, 4)
    assert kept.used == 8


def test_what_scrapes_and_downloads_cost() -> None:
    assert scrape_cost(1000, 181, 15, 1.83)["samples_per_second"] == 12_067
    assert scrape_cost(1000, 181, 0.05, 1.83)["share_of_a_core_at_each_replica"] == 0.0366
    assert download_seconds(1000, 16, 100, 10) == 1280
    assert download_seconds(1, 16, 100, 10) == 12.8
