"""Stop strings against an obvious oracle that searches the whole text at once."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thirdeye.server.text.stop_strings import StopMatcher

Found = tuple[str, str | None]

short = st.text("ab", min_size=1, max_size=5)
stops = st.lists(st.one_of(short, st.sampled_from(["é🎉", "\n\n", "ab\n"])), max_size=4)
texts = st.text("ab\né🎉", max_size=24)


def oracle(text: str, stop: list[str], include: bool, searched_from: int = 0) -> Found:
    """The earliest end of any stop; there, the longest. Ends up to `searched_from` do not count."""
    for end in range(searched_from + 1, len(text) + 1):
        for string in sorted(stop, key=len, reverse=True):
            if text[:end].endswith(string):
                return text[: end if include else end - len(string)], string
    return text, None


def run(pieces: list[str], stop: list[str], include: bool, unsearched: int = 0) -> Found:
    """Feed the pieces, the first `unsearched` without a search, checking what is held back."""
    matcher, sent, fed = StopMatcher(stop, include), "", ""
    for i, piece in enumerate(pieces):
        emit, matched = matcher.feed(piece, search=i >= unsearched)
        fed, sent = fed + piece, sent + emit
        if matched is not None:
            return sent, matched
        assert fed.startswith(sent)
        held = fed[len(sent) :]
        assert held == longest_held(fed, stop), "held back: neither more nor less than it must"
    return sent + matcher.flush(), None


def longest_held(text: str, stop: list[str]) -> str:
    beginnings = {s[:k] for s in stop for k in range(1, len(s))}
    return max((b for b in beginnings if text.endswith(b)), key=len, default="")


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(min(p, len(text)) for p in places), len(text)]
    return [text[a:b] for a, b in pairwise(ends)]


@given(texts, stops, st.booleans(), st.lists(st.integers(0, 24)))
@example("aab", ["ab"], False, [1, 2])
@example("abab", ["bab", "abab"], False, [1, 2, 3])
def test_any_split_equals_the_oracle(
    text: str, stop: list[str], include: bool, places: list[int]
) -> None:
    assert run(cut(text, places), stop, include) == oracle(text, stop, include)


@given(texts, stops, st.booleans(), st.lists(st.integers(0, 24)), st.integers(0, 6))
def test_what_is_complete_before_the_search_starts_does_not_count(
    text: str, stop: list[str], include: bool, places: list[int], unsearched: int
) -> None:
    """min_tokens: but a stop that begins before and is complete after does, and never leaks."""
    pieces = cut(text, places)
    searched_from = sum(map(len, pieces[:unsearched]))
    assert run(pieces, stop, include, unsearched) == oracle(text, stop, include, searched_from)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (["ab"], "xaabx"),
        (["aab", "ab"], "xaaab"),
        (["abc", "bcd"], "xabd abcd"),
        (["aaab", "aa"], "xaaab"),
        (["b", "ab", "aab"], "xaab"),
        (["END", "\nUser:"], "hello\nUse\nUser: x"),
        (["🎉é"], "a🎉🎉éz"),
    ],
)
def test_every_split_of_overlapping_stops(stop: list[str], text: str, include: bool) -> None:
    """All 2^(n-1) splits."""
    expected = oracle(text, stop, include)
    for mask in range(1 << (min(len(text), 13) - 1)):
        places = [i + 1 for i in range(len(text) - 1) if mask >> i & 1]
        assert run(cut(text, places), stop, include) == expected


def test_of_stops_complete_at_once_the_longest_wins() -> None:
    """So that no part of any of them is left in the text."""
    assert StopMatcher(["b", "ab"], include=False).feed("xab") == ("x", "ab")
    assert StopMatcher(["ab", "b"], include=True).feed("xab!") == ("xab", "ab")


def test_the_earliest_complete_stop_wins_over_one_that_began_earlier() -> None:
    assert StopMatcher(["abcd", "bc"], include=False).feed("abcd") == ("a", "bc")


def test_without_stops_nothing_is_held() -> None:
    assert StopMatcher([], include=False).feed("abc") == ("abc", None)


def test_cost_is_linear_in_the_text_for_the_worst_stop() -> None:
    """A quadratic search would look at 256 characters for each of these."""
    steps = 0

    class Counting(StopMatcher):
        def _step(self, char: str) -> None:
            nonlocal steps
            steps += 1
            super()._step(char)

    matcher = Counting(["a" * 255 + "b"], include=False)
    sent = "".join(matcher.feed("a")[0] for _ in range(5000)) + matcher.flush()
    assert sent == "a" * 5000
    assert steps == 5000


def test_an_empty_stop_is_a_bug_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        StopMatcher(["a", ""], include=False)
