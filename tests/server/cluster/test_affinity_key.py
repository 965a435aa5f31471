"""Turns of a conversation have one key, and what shares nothing has another."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.cluster.picking.affinity_key import HEAD_CHARS, affinity_key

SYSTEM = {"role": "system", "content": "You are terse."}
words = st.text("abc\x00\u00e9\ud800", max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=8,
)


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def chat(*messages: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": list(messages)} | more


def test_all_turns_of_a_conversation_have_one_key() -> None:
    first = chat(SYSTEM, said("user", "Hello"))
    later = chat(SYSTEM, said("user", "Hello"), said("assistant", "Hi"), said("user", "More"))
    assert affinity_key(first) == affinity_key(later) == affinity_key(later | {"max_tokens": 9})


@pytest.mark.parametrize(
    "other",
    [
        chat(SYSTEM, said("user", "Good day")),
        chat(said("user", "Hello")),
        chat(SYSTEM, said("user", "Hello")) | {"model": "other"},
        chat(SYSTEM, said("user", "Hello")) | {"system": "Be kind."},
    ],
)
def test_another_conversation_has_another(other: dict[str, Any]) -> None:
    assert affinity_key(other) != affinity_key(chat(SYSTEM, said("user", "Hello")))


def test_a_session_goes_before_all_that_is_said() -> None:
    body = chat(said("user", "Hello"))
    assert affinity_key(body, "s1") == affinity_key(chat(said("user", "Else")), "s1")
    assert len({affinity_key(body, "s1"), affinity_key(body, "s2"), affinity_key(body, "")}) == 3


def test_a_prompt_goes_by_its_head() -> None:
    head = "x" * HEAD_CHARS
    assert affinity_key({"prompt": head + "a"}) == affinity_key({"prompt": head + "b"})
    assert affinity_key({"prompt": "a"}) != affinity_key({"prompt": "b"})
    assert affinity_key({"prompt": [1, 2, 3]}) != affinity_key({"prompt": [1, 2, 4]})
    assert affinity_key({"input": "a"}) is not None


@given(
    st.dictionaries(
        st.sampled_from(["model", "messages", "prompt", "input", "system"]), json_values
    )
)
def test_any_body_has_a_key_or_none(body: dict[str, Any]) -> None:
    """The replica refuses what is wrong in it, by name; the way there must not break."""
    key = affinity_key(body)
    assert key is None or len(key) == 16
    assert key == affinity_key(dict(body))
