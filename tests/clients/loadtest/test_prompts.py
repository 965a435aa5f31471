"""What is sent: lengths and shared prefixes as asked, nothing else in common; traces with care."""

import json
import statistics
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thirdeye.clients.loadtest.workload.prompts import WORDS, Conversation, Length, Mix
from thirdeye.clients.loadtest.workload.trace import TraceError, read_trace


def take(mix: Mix, count: int, seed: int = 0) -> list[Conversation]:
    return list(islice(mix.conversations(seed), count))


def texts(mix: Mix, count: int, seed: int = 0) -> list[str]:
    return [conversation.turns[0].text for conversation in take(mix, count, seed)]


def test_a_fixed_length_is_fixed() -> None:
    assert {len(text.split()) for text in texts(Mix(prompt=Length(17)), 50)} == {17}


def test_log_normal_lengths_have_the_median_and_the_spread() -> None:
    """Their logarithms are normal around the median's; none is longer than the longest."""
    mix = Mix(answer=Length(200, sigma=0.8, longest=1000))
    lengths = [conversation.turns[0].max_tokens for conversation in take(mix, 4000)]
    assert statistics.median(lengths) == pytest.approx(200, rel=0.1)
    below = sorted(lengths)[: len(lengths) // 2]
    assert statistics.median(below) == pytest.approx(200 * 2.718281828 ** (-0.8 * 0.6745), rel=0.1)
    assert max(lengths) == 1000


def test_no_prompt_begins_as_another() -> None:
    """A prefix cache must find nothing that it was not given on purpose."""
    firsts = [text.split()[0] for text in texts(Mix(), 100)]
    assert len(set(firsts)) == 100


def test_prefixes_are_shared_by_their_share() -> None:
    mix = Mix(prompt=Length(5), prefix_tokens=30, num_prefixes=3, prefix_share=0.5)
    made = texts(mix, 1000)
    long = [text for text in made if len(text.split()) == 35]
    assert len(long) == pytest.approx(500, abs=60)
    assert {len(text.split()) for text in made} == {5, 35}
    prefixes = {" ".join(text.split()[:30]) for text in long}
    assert len(prefixes) == 3
    assert len({text.split()[30] for text in long}) == len(long), "after it, each is its own"


def test_another_seed_is_another_text() -> None:
    assert texts(Mix(), 5, seed=1) == texts(Mix(), 5, seed=1)
    assert texts(Mix(), 5, seed=1)[3] != texts(Mix(), 5, seed=2)[3]


def test_words_are_plain() -> None:
    """ASCII letters alone: no vocabulary cuts them up."""
    assert all(word.isascii() and word.isalpha() for word in WORDS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Length(0),
        lambda: Length(1, sigma=-1),
        lambda: Mix(num_prefixes=0),
        lambda: Mix(num_turns=0),
        lambda: Mix(prefix_share=1.5),
    ],
)
def test_nonsense_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        make()


# --- traces


def lines(*rows: Any) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row) for row in rows]


def test_a_trace_in_all_its_forms() -> None:
    read = list(
        read_trace(
            lines(
                {"at": 0.5, "prompt": "Hello", "max_tokens": 7},
                "",
                {
                    "at": 0.5,
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "Why?"},
                    ],
                },
                {"at": 1, "prompt_tokens": 12, "max_tokens": 3},
                {"timestamp": 1500, "input_length": 20, "output_length": 9, "hash_ids": [1]},
            )
        )
    )
    assert [conversation.at for conversation in read] == [0.5, 0.5, 1.0, 1.5]
    turns = [conversation.turns[0] for conversation in read]
    assert [turn.max_tokens for turn in turns] == [7, 128, 3, 9]
    assert (turns[0].text, turns[1].text) == ("Hello", "Why?")
    assert read[1].history == ({"role": "system", "content": "Be brief."},)
    assert [len(turn.text.split()) for turn in turns[2:]] == [12, 20]


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "null",
        {},
        {"prompt": 5},
        {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "max_tokens": True},
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"prompt": "x", "at": -1},
        {"prompt": "x", "at": "soon"},
        {"prompt": "x", "at": float("nan")},
        {"prompt_tokens": "many"},
        {"at": 1, "prompt": "earlier than the line above"},
    ],
)
def test_a_line_that_is_no_request_is_named(row: Any) -> None:
    with pytest.raises(TraceError, match=r"^Line 2 of the trace "):
        list(read_trace(lines({"at": 2, "prompt": "x"}, row)))


@settings(deadline=None)
@given(st.text())
def test_a_trace_of_anything_is_read_or_refused(text: str) -> None:
    """Nothing but a TraceError comes out of it."""
    with suppress(TraceError):
        list(read_trace([text]))
