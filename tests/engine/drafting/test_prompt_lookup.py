"""Prompt lookup against a twin that searches the whole text again for every token."""

import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from thirdeye.server.engine.drafting.prompt_lookup import (
    FIRST_RATE,
    MAX_NGRAM,
    MIN_NGRAM,
    MIN_RATE,
    ROW_COST,
    SURE_MATCH,
    SURE_RATE,
    WEIGHT,
    PromptLookup,
)

texts = st.lists(st.integers(0, 2), min_size=1, max_size=60)


def obvious(text: Sequence[int], num_prompt_tokens: int, few: int, limit: int) -> list[int]:
    """Reads the text from its beginning, and searches what is before each place from its end."""
    source, matched, rate = None, 0, FIRST_RATE
    for place in range(len(text)):
        if source is not None:
            is_right = text[source] == text[place]
            if place >= num_prompt_tokens:
                rate += WEIGHT * (is_right - rate)
            source, matched = (source + 1, matched + 1) if is_right else (None, 0)
        if source is None:
            source, matched = search(text[: place + 1])
    if source is None or rate < MIN_RATE:
        return []
    is_sure = matched >= SURE_MATCH and rate >= SURE_RATE
    guessed = list(text)
    for i in range(limit if is_sure else few):
        if not is_sure and rate ** (i + 1) < ROW_COST:
            break
        guessed.append(guessed[source + i])
    return guessed[len(text) :]


def search(text: Sequence[int]) -> tuple[int | None, int]:
    for n in range(MAX_NGRAM, MIN_NGRAM - 1, -1):
        for end in range(len(text) - 1, n - 1, -1):
            if text[end - n : end] == text[-n:]:
                return end, n
    return None, 0


@settings(deadline=None)
@given(text=texts, num_prompt_tokens=st.integers(1, 60), data=st.data())
def test_as_a_search_of_the_whole_text(
    text: list[int], num_prompt_tokens: int, data: st.DataObject
) -> None:
    """Whenever it is asked, and however seldom, it says what the slow twin says."""
    lookup = PromptLookup()
    asked = data.draw(st.lists(st.integers(1, len(text)), max_size=8).map(sorted))
    for length in asked:
        few, limit = data.draw(st.tuples(st.integers(0, 4), st.integers(4, 9)))
        got = lookup.propose(text[:length], num_prompt_tokens, few, limit)
        assert got == obvious(text[:length], num_prompt_tokens, few, limit)


def test_copies_a_text_from_the_prompt_and_becomes_sure() -> None:
    source = list(range(100, 150))
    lookup, text = PromptLookup(), [*source, 1, 2]
    for i, token_id in enumerate(source):
        drafts = lookup.propose(text, 52, 3, 9)
        if i >= 2:
            assert len(drafts) >= 2
            assert drafts[:3] == [*source, 1, 2][i : i + len(drafts[:3])]
        text.append(token_id)
    assert len(drafts) == 9


def test_what_repeats_itself_is_guessed_to_go_on() -> None:
    """The copy runs on into itself, beyond the end of what is there."""
    text = [7, 8, 9] * 20
    assert PromptLookup().propose(text, 3, 3, 10) == [7, 8, 9] * 3 + [7]


def test_wrong_guesses_switch_it_off_and_right_ones_on_again() -> None:
    """It judges itself by the text that comes, whether its guesses are used or not."""
    lookup = PromptLookup()
    text = [1, 2, 3]
    drafted: list[bool] = []
    for i in range(40):  # after each 1, 2 comes something new
        text += [1, 2]
        drafted.append(bool(lookup.propose(text, 3, 3, 9)))
        text.append(100 + i)
    assert drafted[1]
    assert not any(drafted[10:])
    for _ in range(10):
        text += [5, 6, 7, 8, 9]
        drafted.append(bool(lookup.propose(text, 3, 3, 9)))
    assert all(drafted[-8:])


def test_costs_the_same_for_each_token_of_a_long_text() -> None:
    """No rescans: a quadratic lookup would take minutes here, this one takes a blink."""
    text = [i * 7919 % 50 for i in range(200_000)]
    started = time.process_time()
    lookup = PromptLookup()
    for length in range(100_000, 200_000, 100):
        lookup.propose(text[:length], 10, 3, 9)
    assert time.process_time() - started < 20
