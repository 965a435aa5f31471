"""No key of generation_config.json is passed over in silence."""

from pathlib import Path

import pytest
from transformers import GenerationConfig

from tests.weights.formats.generation.test_suggested_sampling import read
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.generation_keys import HARMLESS, NEUTRAL, OBEYED, not_obeyed

OLDER = {"forced_decoder_ids", "return_legacy_cache", "trust_remote_code"}  # not in transformers 5
OTHER_VALUES = {
    "temperature": 0.5, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1,
    "max_new_tokens": 9, "do_sample": False, "min_new_tokens": 3, "stop_strings": ["x"],
    "suppress_tokens": [7],
}  # fmt: skip


def named(**values: object) -> set[str]:
    fields = Fields(Path("generation_config.json"), values)
    return set(not_obeyed(fields, context=4096))


def test_every_key_of_transformers_is_known() -> None:
    known = [*OBEYED, *NEUTRAL, *HARMLESS]
    assert len(known) == len(set(known)), "each in one list"
    assert set(known) == {*vars(GenerationConfig()), *OLDER}


def test_what_is_said_to_be_obeyed_is() -> None:
    assert {*OTHER_VALUES, "eos_token_id"} == OBEYED, "its test is the tokenizer's"
    for key, value in OTHER_VALUES.items():
        assert read(**{key: value}) != read(), key
        assert named(**{key: value}) == set()


@pytest.mark.parametrize("key", NEUTRAL)
def test_what_is_not_obeyed_is_named_if_it_says_something(key: str) -> None:
    for value in (None, *NEUTRAL[key]):
        assert named(**{key: value}) == set()
    for value in (7, 0.3, [3], {"a": 1}, "x", True):
        says = value not in NEUTRAL[key]
        assert named(**{key: value}) == ({key} if says else set()), value


def test_a_length_that_the_context_has_anyway_says_nothing() -> None:
    assert named(max_length=4096) == named(max_length=9999) == set()
    assert named(max_length=4095) == {"max_length"}


def test_harmless_ones_are_not_named_and_unknown_ones_are() -> None:
    assert named(**dict.fromkeys(HARMLESS, 3)) == set()
    assert named(of_tomorrow=0, do_sample=True) == {"of_tomorrow"}


def test_words_of_one_token_are_obeyed_and_longer_ones_named() -> None:
    assert named(bad_words_ids=[[7], [8]]) == set()
    assert named(bad_words_ids=[[7], [8, 9]]) == {"bad_words_ids"}
