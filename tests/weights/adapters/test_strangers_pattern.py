"""Regular expressions of strangers: what is taken ends in time, and what people write is taken."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.weights.formats.strangers_pattern import (
    LONGEST_NAME,
    matches,
    too_much_of,
    too_much_of_all,
)

NAME = "model.layers.10.self_attn.q_proj"
LAYERS = "|".join(map(str, range(32)))


@pytest.mark.parametrize(
    "text",
    [
        ".?" * 100 + "z",
        "(.|..)" * 50 + "z",
        "(?:.|.)" * 50 + "z",
        "(a|(b|(c|d)?)?)?" * 40,
        "(a+)+b",
        "(a|a){30}b",
        "(a?){50}",
        "(.{0,9})*",
        ".*" * 20 + "z",
        ".{0,99}" * 9 + "z",
        r"[^)]*" * 9,
        "a??" * 100,
        "x" * 2000,
        "((((",
        "a" + "(" * 500,
    ],
)
def test_what_may_take_for_ever_is_not_taken(text: str) -> None:
    assert too_much_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "q_proj",
        r".*\.(q|k|v|o)_proj",
        rf"model\.layers\.({LAYERS})\.self_attn\.(q|k|v|o)_proj",
        r".*layers\.\d+\.(mlp|self_attn)\.[a-z_]+",
        r".*lm_head.*",
        r"(?:.*\.)?down_proj$",
        r"[(*+]x",
        r"\(\*\+",
    ],
)
def test_what_people_write_is_taken(text: str) -> None:
    assert too_much_of(text) == ""
    assert bool(matches(text, NAME)) is bool(re.match(text, NAME))


def test_many_that_are_taken_by_themselves_end_in_time_together() -> None:
    """20,000 of `x.*.*.*` took half a minute for one small file."""
    several = [f"x{i}.*.*.*" for i in range(20)]
    assert not any(map(too_much_of, several))
    assert "together" in too_much_of_all(several)
    assert "limit is 1,024" in too_much_of_all([f"layers.{i}.q_proj" for i in range(1025)])
    assert too_much_of_all([f"layers.{i}.q_proj" for i in range(1024)]) == ""


def test_a_name_that_no_module_has_is_matched_by_nothing() -> None:
    assert matches("a*", "a" * LONGEST_NAME)
    assert not matches("a*", "a" * (LONGEST_NAME + 1))


PARTS = st.sampled_from(["a", ".", "a?", ".?", ".*", "a*", "(a|.)", "(.|..)", "(?:a|aa)", "[ab]?"])


@given(st.lists(PARTS, max_size=40))
@draws(60, 2000)
def test_what_is_taken_ends_in_time(parts: list[str]) -> None:
    text = "".join(parts) + "z"
    if too_much_of(text):
        return
    began = time.process_time()
    assert not matches(text, "a" * LONGEST_NAME)
    assert time.process_time() - began < 5
