"""Tokens as the API prints them."""

from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.interface.types import TokenLogprobs
from thirdeye.server.text.events import TextToken
from thirdeye.server.text.token_logprobs import (
    PrintedToken,
    chosen,
    legacy_top,
    likeliest,
    token_key,
    token_text,
)


def name(token_id: int) -> str:
    return token_key(TOKENIZER.token_bytes(token_id))


PARTIAL = "€".encode()[:2]
TOKENIZER = ByteTokenizer(extra=[PARTIAL, b"a", "€".encode()])
FIRST = TOKENIZER.first_extra_id


def test_unfinished_characters_are_replaced_in_text_and_exact_in_bytes() -> None:
    assert token_text(PARTIAL) == "\ufffd"
    position = TokenLogprobs(FIRST, -0.25, 1, [(FIRST, -0.25), (97, -2.0)])
    assert chosen(TextToken(FIRST, PARTIAL, position), TOKENIZER) == PrintedToken(
        "\ufffd", -0.25, PARTIAL, FIRST
    )
    assert likeliest(position, TOKENIZER) == [
        PrintedToken("\ufffd", -0.25, PARTIAL, FIRST),
        PrintedToken("a", -2.0, b"a", 97),
    ]


def test_a_hidden_token_has_its_literal_and_no_bytes() -> None:
    position = TokenLogprobs(257, -0.5, 1, [])
    assert chosen(TextToken(257, None, position), TOKENIZER) == PrintedToken(
        "<|im_end|>", -0.5, None, 257
    )
    assert likeliest(position, TOKENIZER) == []


def test_keys_of_the_legacy_answer() -> None:
    assert token_key(PARTIAL) == r"bytes:\xe2\x82"
    assert token_key("€".encode()) == "€"


def test_the_sampled_token_is_always_in_its_own_top_with_the_identical_float() -> None:
    position = TokenLogprobs(97, -3.0000001, 9, [(FIRST + 2, -0.1), (98, -0.2)])
    assert legacy_top(position, name) == {"€": -0.1, "b": -0.2, "a": -3.0000001}


def test_of_two_tokens_with_the_same_text_the_larger_is_kept() -> None:
    position = TokenLogprobs(97, -3.0, 2, [(FIRST + 1, -1.0), (97, -3.0)])
    assert legacy_top(position, name) == {"a": -1.0}
    position = TokenLogprobs(FIRST + 1, -1.0, 1, [(97, -3.0)])
    assert legacy_top(position, name) == {"a": -1.0}
