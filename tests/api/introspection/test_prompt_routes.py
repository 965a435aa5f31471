"""What the model really sees: the prompt that an answer is made from, as text, ids and a number."""

import pytest

from tests.api.http.test_errors import ask
from tests.api.support import CHAT, CONTEXT, TEMPLATE, fake_engine, ready_state

RENDER = "/v1/chat/completions/render"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
LONG = CHAT | {"messages": [{"role": "user", "content": "x" * 2 * CONTEXT}]}


@pytest.mark.parametrize("path", [RENDER, "/apply-template"])
def test_the_prompt_is_what_the_engine_is_given(path: str) -> None:
    engine = fake_engine()
    state = ready_state(engine)
    shown = ask(path, CHAT, state=state).json()
    assert engine.requests == []
    ask("/v1/chat/completions", CHAT | {"max_tokens": 1}, state=state)
    assert shown["prompt_token_ids"] == engine.requests[0].prompt_token_ids
    assert shown["count"] == len(shown["prompt_token_ids"])
    assert shown["prompt"] == "<|turn|>user\nHi<|turn|>assistant\n"


def test_tools_are_part_of_it() -> None:
    assert '"name": "f"' in ask(RENDER, CHAT | {"tools": [TOOL]}).json()["prompt"]


def test_it_is_counted_whether_or_not_it_fits() -> None:
    usage = ask("/v1/chat/completions", CHAT).json()["usage"]
    path = "/v1/chat/completions/input_tokens"
    assert ask(path, CHAT).json() == {"input_tokens": usage["prompt_tokens"]}
    assert ask(path, LONG).json()["input_tokens"] > 2 * CONTEXT
    counted = ask("/v1/responses/input_tokens", {"model": "tiny", "input": "Hi"}).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": usage["prompt_tokens"]}


@pytest.mark.parametrize("path", [RENDER, "/apply-template", "/v1/chat/completions/input_tokens"])
def test_they_are_as_strict_as_chat(path: str) -> None:
    assert ask(path, CHAT | {"temperatur": 1}).status_code == 400
    assert ask(path, CHAT | {"model": "x"}).status_code == 404


def test_the_props_tell_context_slots_and_template() -> None:
    props = ask("/props", None, method="GET").json()
    assert props["default_generation_settings"] == {"n_ctx": CONTEXT}
    assert (props["total_slots"], props["chat_template"]) == (8, TEMPLATE)
