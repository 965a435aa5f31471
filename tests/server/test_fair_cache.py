"""What one tenant brings is found by nobody else, and pushes out nobody who has less."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.fair_cache import FairCache


def cache(max_count: int = 4, max_bytes: int = 100) -> FairCache[str, str]:
    return FairCache(max_count, max_bytes, lambda key, made: len(key) + len(made))


def test_each_finds_its_own() -> None:
    one = cache()
    one.put("a", "x", "of a")
    assert one.get("a", "x") == "of a"
    assert one.get("b", "x") is None
    one.put("b", "x", "of b")
    assert (one.get("a", "x"), one.get("b", "x")) == ("of a", "of b")
    one.drop("a", "x")
    one.drop("a", "unknown")
    assert (one.get("a", "x"), one.get("b", "x")) == (None, "of b")


def test_whoever_holds_the_most_gives_up_its_oldest() -> None:
    one = cache()
    one.put("b", "mine", "1")
    for number in range(10):
        one.put("a", f"x{number}", "1")
    assert one.get("b", "mine") == "1"
    assert [n for n in range(10) if one.get("a", f"x{n}")] == [7, 8, 9]


def test_what_is_used_stays() -> None:
    one = cache(max_count=2)
    one.put("a", "x", "1")
    one.put("a", "y", "1")
    one.get("a", "x")
    one.put("a", "z", "1")
    assert one.get("a", "y") is None
    assert one.get("a", "x") == "1"


def test_bytes_are_bounded_too() -> None:
    one = cache(max_count=100)
    one.put("b", "small", "1")
    one.put("a", "x", "m" * 60)
    one.put("a", "y", "m" * 60)
    assert one.get("b", "small") == "1"
    assert one.get("a", "x") is None
    assert one.get("a", "y") is not None
    one.put("a", "z", "m" * 200)
    assert one.get("a", "z") is None, "what is larger than all the room is not kept"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyzuvw"), st.integers(0, 30))))
def test_bounds_and_books_hold(puts: list[tuple[str, str, int]]) -> None:
    one = cache(max_bytes=40)
    own: dict[str, OrderedDict[str, str]] = {"a": OrderedDict()}
    for tenant, key, size in puts:
        one.put(tenant, key, "m" * size)
        own.setdefault(tenant, OrderedDict())[key] = "m" * size
        found = {(t, k): one.get(t, k) for t in own for k in own[t]}
        kept = {place: made for place, made in found.items() if made is not None}
        assert all(made == own[t][k] for (t, k), made in kept.items())
        assert len(kept) == len(one) <= 4
        assert sum(len(k) + len(made) for (_, k), made in kept.items()) == one.num_bytes <= 40
