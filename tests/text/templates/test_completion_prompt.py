"""A completion's prompt to ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.text.templates.completion_prompt import (
    PromptTooLong,
    encode_prompt,
    fewest_tokens,
    too_long,
)

PLAIN = ByteTokenizer()
WITH_BOS = ByteTokenizer(add_bos=True)
WITHOUT = ByteTokenizer(bos=None)


def test_special_literals_become_their_ids() -> None:
    """lm-eval finds the id of a literal this way."""
    assert encode_prompt("<|im_end|>", PLAIN) == [257]
    assert encode_prompt("a<|im_end|>é", PLAIN) == [97, 257, *"é".encode()]


def test_bos_in_front_where_the_model_wants_it_and_the_caller_does_not_mind() -> None:
    assert encode_prompt("a", WITH_BOS) == [256, 97]
    assert encode_prompt("a", WITH_BOS, add_special_tokens=False) == [97]
    assert encode_prompt("a", PLAIN) == [97]


@pytest.mark.parametrize("add_special_tokens", [False, True])
def test_an_empty_prompt_is_bos_alone(add_special_tokens: bool) -> None:
    assert encode_prompt("", PLAIN, add_special_tokens) == [256]
    with pytest.raises(ValueError, match=r"^'prompt' must not be empty"):
        encode_prompt("", WITHOUT, add_special_tokens)


def test_only_a_text_that_nothing_continues_has_an_end() -> None:
    """An answer that began behind the end of its prompt would be about something else."""
    with_eos = ByteTokenizer(add_bos=True, add_eos=True)
    assert encode_prompt("a", with_eos) == [256, 97]
    assert encode_prompt("a", with_eos, is_whole=True) == [256, 97, 257]
    assert encode_prompt("a", with_eos, False, is_whole=True) == [97]


def test_ids_are_taken_as_they_are() -> None:
    ids = [5, 257]
    result = encode_prompt(ids, WITH_BOS)
    assert result == ids
    assert result is not ids
    with pytest.raises(ValueError, match="at least one token"):
        encode_prompt([], PLAIN)


@given(st.text())
def test_the_pre_check_never_refuses_what_fits(text: str) -> None:
    num_tokens = len(PLAIN.encode_with_special(text))
    assert fewest_tokens(text, PLAIN) <= num_tokens
    assert not too_long(text, num_tokens, PLAIN)


def test_a_megabyte_is_refused_without_tokenizing() -> None:
    assert too_long("x" * 10**6, 8192, PLAIN)
    assert not too_long("x" * 10**6, 10**6, PLAIN)


def test_the_error_names_the_limit() -> None:
    error = PromptTooLong(12, 10)
    assert str(error) == "The prompt must have at most 10 tokens, got at least 12."
