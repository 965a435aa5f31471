"""The length of what is prescribed: exact where Python's `re` can show it, never too small."""

import time
from re import _parser as parser  # type: ignore[attr-defined]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.text.constraints import repetition
from thirdeye.server.text.constraints.constraint import json_schema, lark, regex
from thirdeye.server.text.constraints.repetition import MAX_REPEATED, lark_length, regex_length
from thirdeye.server.text.constraints.trials.refusal import ConstraintError

FORCED = st.recursive(
    st.sampled_from(["a", "b", r"\n", "[a]", r"\x61", "[^]a]", "é"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(1, 12)).map(lambda p: f"(?:{p[0]}){{{p[1]}}}"),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: f"(?P<g>{p[0]}){{{p[1]},{p[1] + 1}}}"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}|{p[1]})"),
    ),
    max_leaves=6,
)


def shortest(pattern: str) -> int:
    """What the pattern needs at least, by Python's own parser."""
    width: tuple[int, int] = parser.parse(pattern.replace("?P<g>", "?:")).getwidth()
    return width[0]


@given(FORCED)
def test_never_less_than_what_a_match_needs(pattern: str) -> None:
    assert regex_length(pattern) >= min(shortest(pattern), MAX_REPEATED)


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("abc", 3),
        ("a{7}", 7),
        ("a{2,9}b*", 3),
        ("(ab|c){3}", 6),
        ("((a{3}){4}){5}", 60),
        (r"\p{L}{4}\d{2}", 6),
        ("[^]x[a]]{3}", 3),
        ("(?i)a{2}(?:b(?P<n>c)){2}", 6),
        ("a{,4}", 5),  # not a repetition in Rust's syntax: five characters
        ("x{", 2),
        ("(((a{2}", 2),
        ("a)b{2}", 3),
        ("", 0),
        ("x*a{400000}", 10 * MAX_REPEATED),
        ("a{99999999999999}", 10 * MAX_REPEATED),
    ],
)
def test_lengths(pattern: str, length: int) -> None:
    assert regex_length(pattern) == length


@pytest.mark.parametrize(
    ("grammar", "length"),
    [
        ('start: "ab" /c{3}/', 5),
        ('start: x{4}\nx: Y | "z"\nY: "a"{5}', 20),
        ('start: "a"~3..9 // "b"~50', 3),
        ('start: start "a" | "b"', 1),
        ('?start.2: (x "," ){3} [x]\nx[lazy]: /a|bcd/', 15),
        ("start: other\n%import common.INT", 0),
        ('start: %json {"pattern": "a{400}"}', 407),
    ],
)
def test_lengths_of_grammars(grammar: str, length: int) -> None:
    assert lark_length(grammar) == length


ATTACKS = [
    (regex, "a{4000010}"),
    (regex, "((a{100}){100}){100}"),
    (regex, "x*a{400000}"),
    (regex, "(abc){100000}"),
    (regex, "(a|b{5000})"),
    (json_schema, {"type": "string", "pattern": "^a{400000}$"}),
    (json_schema, {"type": "object", "patternProperties": {"^(a{1000}){1000}$": {}}}),
    (lark, "start: /a{4000000}/"),
    (lark, 'start: X\nX: "a"{400000}'),
    (lark, 'start: X\nX: Y{1000}\nY: "ab" ~ 1000'),
    (lark, 'start: %json {"type": "string", "pattern": "^a{400000}$"}'),
]


@pytest.mark.parametrize(("make", "text"), ATTACKS)
def test_what_would_take_seconds_is_refused_at_once(make, text) -> None:  # type: ignore[no-untyped-def]
    start = time.thread_time()
    with pytest.raises(ConstraintError, match="at most 4,096 characters by its repetitions"):
        make(text)
    assert time.thread_time() - start < 0.2


def test_long_texts_cost_one_pass() -> None:
    start = time.thread_time()
    regex_length("(" * 2000 + "a{2}" * 500)
    rules = [f"r{i}: r{i + 1} r{i + 1}" for i in range(5000)]
    lark_length("\n".join(rules))
    lark_length("\n".join(reversed(rules)))
    assert time.thread_time() - start < 2


def test_each_rule_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others name it: it is done in the process that everybody's answers pass."""
    measured: list[object] = []
    measure = repetition._measure
    monkeypatch.setattr(
        repetition, "_measure", lambda parts: measured.append(parts) or measure(parts)
    )
    names = [f"r{i}" for i in range(40)]
    rules = [f'{name}: {" | ".join(names)} | "a"' for name in names]
    assert repetition.lark_length("\n".join(["start: r0", *rules])) < 41 * 40
    assert len(measured) <= 2 * 41, "a rule, and the text in it"
