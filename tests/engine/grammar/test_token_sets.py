"""Answers made of given tokens alone: what vLLM's `allowed_token_ids` does."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.engine.grammar.toy_grammars import grammar_core, guidance
from tests.engine.toy import EOS, VOCAB, make_request, run_all, tokens_of, toy_logits
from thirdeye.server.engine.grammar.bitmask import empty_masks, unpack
from thirdeye.server.engine.interface.grammar_protocol import GrammarError
from thirdeye.server.engine.interface.token_sets import token_set, token_set_of
from thirdeye.server.engine.interface.types import FinishReason

COMPILER = guidance()


def answer_by_hand(prompt: list[int], allowed: set[int], max_tokens: int) -> list[int]:
    said: list[int] = []
    while len(said) < max_tokens and said[-1:] != [EOS]:
        logits = toy_logits([*prompt, *said])
        said.append(max(allowed, key=lambda token_id: float(logits[token_id])))
    return said


@draws(10, 40)
@given(
    allowed=st.sets(st.integers(0, VOCAB - 1), min_size=1, max_size=6),
    prompt=st.lists(st.integers(2, VOCAB - 1), min_size=1, max_size=4),
)
def test_an_answer_is_the_likeliest_of_the_allowed(allowed: set[int], prompt: list[int]) -> None:
    """It goes on to its limit, unless end-of-sequence is one of them and comes."""
    request = make_request("r", prompt, max_tokens=12)
    request = msgspec.structs.replace(request, grammar=token_set(sorted(allowed)))
    outputs = run_all(grammar_core(), [request])["r"]
    expected = answer_by_hand(prompt, allowed, 12)
    assert tokens_of(outputs) == expected
    ended = FinishReason.STOP if expected[-1] == EOS else FinishReason.LENGTH
    assert outputs[-1].finish_reason is ended


def test_end_of_sequence_alone_is_an_answer() -> None:
    request = msgspec.structs.replace(make_request("r"), grammar=token_set([EOS]))
    (output,) = run_all(grammar_core(), [request])["r"]
    assert (output.token_ids, output.finish_reason) == ([EOS], FinishReason.STOP)


def test_the_mask_has_a_bit_for_each() -> None:
    matcher = COMPILER.compile(token_set([0, 5, VOCAB - 1, 10**9]))
    masks = empty_masks(1, VOCAB)
    for said in ([], [5], [5, 5, 0]):
        matcher.follow(said)
        masks[:] = -1
        matcher.fill(masks[0])
        assert set(np.flatnonzero(~unpack(masks, VOCAB)[0].numpy())) == {0, 5, VOCAB - 1}
        assert not matcher.is_over
    with pytest.raises(GrammarError):
        matcher.follow([6])


@pytest.mark.parametrize(
    "text", ['{"token_ids": [-1]}', '{"token_ids": "a"}', '{"token_ids"', "{}"]
)
def test_what_is_no_set_is_none(text: str) -> None:
    assert token_set_of(text) is None
