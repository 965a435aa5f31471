"""A caller's own rules in Lark are followed within narrow limits, all others within wide ones."""

from itertools import product

import numpy as np
import pytest

from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.interface.grammar_limits import CALLERS_RULES
from thirdeye.server.engine.interface.grammar_protocol import GrammarError, num_words
from thirdeye.server.text.constraints import constraint as grammar

LETTERS = [bytes([c]) for c in b'ab[],{":1']
WORDS = [b"".join(word) for n in range(2, 9) for word in product(LETTERS[:2], repeat=n)]
TOKENS = [b"<|end|>", *LETTERS, *WORDS]
MANY = 40  # tokens of an answer: each mask of an ambiguous grammar is more work than the one before
AMBIGUOUS = ("s: s s | /[ab]/", 's: s s s | s s | "a" | ""')
PLAIN = {
    "lists": ('start: v\nv: "[" [v ("," v)*] "]" | "a"', "[a,[a,a],[[a],a],a]"),
    "sums": ('start: e\ne: e "b" e | "a" e "a" | /[a]+/', "abab" * 2 + "a"),
    "choices": ("start: " + " | ".join(f'"{"ab" * i}"' for i in range(1, 200)), "ab" * 8),
}


def letters(text: str) -> list[int]:
    return [TOKENS.index(letter.encode()) for letter in text]


def num_followed(serialized: str, token_ids: list[int]) -> int:
    """How many of them, and one for the look behind the last, until it is an error."""
    compiler = LLGuidanceCompiler(TOKENS, special_token_ids=[0], eos_token_ids=[0], encode=letters)
    matcher, mask = compiler.compile(serialized), np.empty(num_words(len(TOKENS) + 1), np.int32)
    for i in range(len(token_ids) + 1):
        try:
            matcher.follow(token_ids[:i])
            matcher.fill(mask)
        except GrammarError:
            return i
    return len(token_ids) + 1


@pytest.mark.parametrize("rules", AMBIGUOUS)
def test_what_is_ambiguous_without_end_is_followed_a_little_way(rules: str) -> None:
    """On and on it would be a second of work for one mask, inside everybody's step."""
    serialized = grammar.lark(f"start: s\n{rules}")
    token_ids = [TOKENS.index(b"aaaaaaaa")] * MANY
    found = num_followed(serialized, token_ids)
    assert 1 <= found < MANY
    wide = serialized.replace(CALLERS_RULES, "//")
    assert num_followed(wide, token_ids[: found + 1]) == found + 2


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_is_followed_to_its_end(name: str) -> None:
    rules, text = PLAIN[name]
    assert num_followed(grammar.lark(rules), letters(text)) == len(text) + 1


def test_many_optional_properties_are_no_callers_rules() -> None:
    """They need many items of the parser, which cost little."""
    schema = {"properties": {f"a{i}": {"type": "string"} for i in range(250)}}
    serialized = grammar.json_schema({"type": "object"} | schema)
    assert CALLERS_RULES not in serialized
    assert num_followed(serialized, letters('{"a1')) == 5
