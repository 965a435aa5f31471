"""The choice of a replica: the same for the same key, bounded under any load, and little moves."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.cluster.picking.replica_ring import BOUND, ReplicaRing, pick_replica

KEYS = [f"key {i}".encode() for i in range(2000)]
names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


def replicas(number: int) -> list[str]:
    return [f"10.0.0.{i}:8000" for i in range(number)]


@given(names, st.binary(max_size=40), st.randoms(use_true_random=False))
def test_an_order_has_each_replica_once_whoever_is_named_first(
    found: list[str], key: bytes, chance: object
) -> None:
    order = list(ReplicaRing(found, 10).from_key(key))
    assert sorted(order) == sorted(found)
    chance.shuffle(found)  # type: ignore[attr-defined]  # hypothesis' Random
    assert list(ReplicaRing(found, 10).from_key(key)) == order


@given(names, st.binary(max_size=40), st.data(), st.floats(1, 3))
def test_who_is_picked_has_room_and_nobody_before_it_had(
    found: list[str], key: bytes, data: st.DataObject, bound: float
) -> None:
    """For any loads there is one: the sum over all limits is above what there is."""
    counts = st.lists(st.integers(0, 50), min_size=len(found), max_size=len(found))
    loads = dict(zip(found, data.draw(counts), strict=True))
    ring = ReplicaRing(found, 10)
    limit = bound * (sum(loads.values()) + 1) / len(found)
    picked = pick_replica(ring, key, loads, bound=bound)
    order = list(ring.from_key(key))
    before = order[: order.index(picked)]
    assert loads[picked] < limit
    assert all(loads[replica] >= limit for replica in before)
    assert pick_replica(ring, key, loads, sum(loads.values()), bound) == picked


@pytest.mark.parametrize("number", [2, 10, 50])
def test_a_hot_key_never_fills_one_replica(number: int) -> None:
    """Everybody sends the same prefix: without the bound one replica would have all of it."""
    ring, loads = ReplicaRing(replicas(number)), Counter[str]()
    for sent in range(1, 40 * number + 1):
        loads[pick_replica(ring, b"hot", loads)] += 1
        assert max(loads.values()) < BOUND * sent / number + 1
    assert len(loads) >= number / BOUND


def test_a_replica_less_moves_its_own_keys_alone() -> None:
    before, after = ReplicaRing(replicas(10)), ReplicaRing(replicas(9))
    gone = replicas(10)[-1]
    moved = 0
    for key in KEYS:
        was, is_now = pick_replica(before, key, {}), pick_replica(after, key, {})
        assert was in (is_now, gone)
        moved += was == gone
    assert 0.5 * len(KEYS) / 10 < moved < 2 * len(KEYS) / 10


def test_keys_are_spread() -> None:
    ring = ReplicaRing(replicas(10))
    counts = Counter(pick_replica(ring, key, {}) for key in KEYS)
    assert set(counts) == set(replicas(10))
    assert max(counts.values()) < 2 * len(KEYS) / 10


def test_what_cannot_be_is_refused() -> None:
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="each of them once"):
            ReplicaRing(wrong)
    with pytest.raises(ValueError, match="'bound' must be at least 1"):
        pick_replica(ReplicaRing(["a"]), b"", {}, bound=0.9)
