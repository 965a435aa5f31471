"""llguidance by its C interface, held against the classes of its Python package."""

import _ctypes
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from tests.draws import draws
from tests.engine.grammar.toy_grammars import SPECIAL, TOKENS, encode
from tests.engine.toy import EOS, VOCAB
from thirdeye.server.engine.grammar import llguidance_c
from thirdeye.server.engine.grammar.llguidance_c import CTokenizer, CWalk
from thirdeye.server.text.constraints import constraint as grammar

LIMITS = LLParserLimits(verbose_errors=False)
GRAMMARS = (
    grammar.json_object(),
    grammar.json_schema({"type": "array", "items": {"enum": [0, 10, None, "ab"]}}),
    grammar.regex("(é|a)*0"),
    grammar.choice(["ab", "aba", "true" * 30]),
    grammar.lark('start: "[" start "]" | "a" | "b"'),
    grammar.regex(""),
)
NUM_WORDS = -(-VOCAB // 32)


class Vocabulary:
    """As the package's classes ask for one."""

    tokens, eos_token_id, bos_token_id, special_token_ids = TOKENS, EOS, None, [EOS, SPECIAL]

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError
        return encode(text)


def c_tokenizer(
    encode: Callable[[str], list[int]] = encode, eos_token_ids: tuple[int, ...] = (EOS,)
) -> CTokenizer:
    return CTokenizer(
        TOKENS, special_token_ids=[EOS, SPECIAL], eos_token_ids=eos_token_ids, encode=encode
    )


def mask_of(walk: CWalk) -> list[int]:
    mask = np.empty(NUM_WORDS, np.int32)
    walk.mask(mask.ctypes.data, mask.nbytes)
    return mask.tolist()  # type: ignore[no-any-return]  # numpy says Any


def expected_of(matcher: LLMatcher) -> list[int]:
    return np.frombuffer(matcher.compute_bitmask(), np.int32).tolist()  # type: ignore[no-any-return]


@draws(60, 600)
@given(data=st.data())
def test_a_walk_is_that_of_the_packages_classes(data: st.DataObject) -> None:
    """On and back, by tokens that fit and that do not, and in a copy."""
    ends = data.draw(st.sampled_from([(EOS,), (EOS, 5)]))
    text = data.draw(st.sampled_from(GRAMMARS))
    walk = c_tokenizer(eos_token_ids=ends).walk(text, LIMITS)
    theirs = LLTokenizer(TokenizerWrapper(Vocabulary()), eos_token=list(ends))
    matcher = LLMatcher(theirs, text, log_level=0, limits=LIMITS)
    num_taken = 0
    for _ in range(data.draw(st.integers(1, 12))):
        expected = expected_of(matcher)
        assert mask_of(walk) == expected
        fitting = [i for i in range(VOCAB) if expected[i // 32] >> i % 32 & 1]
        which = data.draw(st.sampled_from(["on", "on", "anywhere", "back", "copy"]))
        if which == "back":
            num_back = data.draw(st.integers(0, num_taken))
            walk.rollback(num_back)
            matcher.rollback(num_back)
            num_taken -= num_back
        elif which == "copy":
            walk, matcher = walk.copy(), matcher.deep_copy()
        else:
            of = st.sampled_from(fitting if which == "on" else range(VOCAB))
            token_ids = data.draw(st.lists(of, min_size=1, max_size=1 if which == "on" else 3))
            taken = walk.consume(token_ids)
            assert taken == matcher.try_consume_tokens(token_ids)
            num_taken += taken
        assert (walk.is_stopped(), walk.is_error()) == (matcher.is_stopped(), matcher.is_error())
        if walk.is_error():
            return


def test_what_is_no_grammar_is_an_error() -> None:
    tokenizer = c_tokenizer()
    assert not tokenizer.walk(GRAMMARS[0], LIMITS).is_error()
    for text in (
        "",
        "{",
        "{}",
        '{"grammars": 1}',
        GRAMMARS[0] + "\0",
        "start: \ud800",
        "start: no",
    ):
        walk = tokenizer.walk(text, LIMITS)
        assert walk.is_error(), text
        assert walk.is_stopped()
        assert walk.consume([2]) == 0
        walk.copy().rollback(1)


def test_the_limits_are_those_that_are_given() -> None:
    narrow = LLParserLimits(max_grammar_size=1, verbose_errors=False)
    assert c_tokenizer().walk(GRAMMARS[0], narrow).is_error()


def test_a_text_of_more_tokens_than_there_is_room_for_is_cut_once() -> None:
    """Room is made for a token of four bytes."""
    asked = list[str]()

    def counted(text: str) -> list[int]:
        asked.append(text)
        return [TOKENS.index(b"a")] * len(text)

    walk = c_tokenizer(counted).walk(grammar.regex("a{400}"), LIMITS)
    mask_of(walk)
    assert not walk.is_error()
    assert asked == ["a" * 400]


def test_a_text_that_cannot_be_cut_ends_its_own_walk() -> None:
    def failing(text: str) -> list[int]:
        raise ValueError

    tokenizer = c_tokenizer(failing)
    walk = tokenizer.walk(grammar.choice(["abab"]), LIMITS)
    mask_of(walk)
    assert walk.is_error()
    other = tokenizer.walk(grammar.regex("[ab]+0"), LIMITS)
    mask_of(other)
    assert not other.is_error()


def test_a_vocabulary_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="EOS token ID 999 is out of range"):
        c_tokenizer(eos_token_ids=(999,))


def test_walks_keep_what_they_walk_over() -> None:
    walk = c_tokenizer().walk(GRAMMARS[0], LIMITS).copy()
    assert mask_of(walk) == mask_of(c_tokenizer().walk(GRAMMARS[0], LIMITS))


def test_what_takes_long_is_called_without_the_interpreter() -> None:
    """A step goes on beside a tokenizer that is made, a grammar that is compiled and a mask."""
    held = {
        name
        for name, function in vars(llguidance_c).items()
        if getattr(function, "_flags_", 0) & _ctypes.FUNCFLAG_PYTHONAPI
    }
    assert not held & {"_new_tokenizer", "_new_matcher", "_compute_mask"}
    assert {"_validate", "_consume", "_rollback", "_is_error", "_is_stopped", "_clone"} <= held
