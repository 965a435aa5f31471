"""Chat's own custom tools: offered, called whole and in streams, and sent back as history."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from openai.types.chat import ChatCompletion

from tests.api.openai.tools import CHAT, TOOLS, URL, ask, engine_that_says, state_of
from tests.api.support import Served, live
from thirdeye.server.text.tools.form import write_call

GRAMMAR = 'start: line+\nline: ("+" | "-") /[^\\n]*/ LF\n%import common.LF'
PATCH = {
    "type": "custom",
    "custom": {
        "name": "patch",
        "description": "Changes.",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": GRAMMAR}},
    },
}
BODY = CHAT | {"tools": [TOOLS[0], PATCH]}
TEXT = '+a "b"\\\n-\tc\n'
CALL = write_call("patch", json.dumps({"input": TEXT}))
BOTH = f"{write_call('get_weather', '{}')}\n{CALL}"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    state = state_of(engine_that_says(CALL))
    with live(state) as url:
        yield Served(url, state)


def test_a_call_has_text_and_no_arguments(served: Served) -> None:
    served.use(engine_that_says(BOTH))
    answer = served.whole(URL, BODY)
    ChatCompletion.model_validate(answer)
    first, second = answer["choices"][0]["message"]["tool_calls"]
    assert first["function"] == {"name": "get_weather", "arguments": "{}"}
    assert second.pop("id").startswith("call_")
    assert second == {"type": "custom", "custom": {"name": "patch", "input": TEXT}}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("step", [1, 500])
def test_a_stream_tells_it_piece_by_piece(served: Served, step: int) -> None:
    served.use(engine_that_says(BOTH, tokens_per_step=step))
    answer = served.post(URL, BODY | {"stream": True, "n": 2})
    chunks = [json.loads(x[6:]) for x in answer.text.splitlines() if x.startswith("data: {")]
    for choice in (0, 1):
        news = [
            call
            for chunk in chunks
            for part in chunk["choices"]
            if part["index"] == choice
            for call in part["delta"].get("tool_calls", [])
        ]
        mine = [call for call in news if call["index"] == 1]
        head = mine[0]
        assert head.pop("id").startswith("call_")
        assert head == {"index": 1, "type": "custom", "custom": {"name": "patch", "input": ""}}
        assert "".join(call["custom"]["input"] for call in mine) == TEXT
        assert all("function" not in call for call in mine)


def test_its_grammar_is_held_and_told(served: Served) -> None:
    engine = served.use(engine_that_says(CALL))
    answer = served.post(
        URL, BODY | {"tool_choice": {"type": "custom", "custom": {"name": "patch"}}}
    )
    assert "x-ignored-params" not in answer.headers
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    (asked,) = engine.requests
    prompt = bytes(i for i in asked.prompt_token_ids if i < 256).decode()
    assert "text of this grammar" in prompt
    follower = LLMatcher(LLTokenizer("byte"), asked.grammar)
    assert follower.validate_tokens(list(CALL.encode())) == len(CALL)
    other = write_call("patch", json.dumps({"input": "a"}))
    assert follower.validate_tokens(list(other.encode())) == other.index('a"}')


def test_what_cannot_be_held_is_named(served: Served) -> None:
    odd = 'start: T\nT: /a+/ & ~/aa"/'
    tool = {"type": "custom", "custom": {"name": "odd", "format": {"type": "grammar",
            "syntax": "lark", "definition": odd}}}  # fmt: skip
    served.use(engine_that_says("Hi"))
    answer = served.post(URL, BODY | {"tools": [*BODY["tools"], tool]})
    assert answer.headers["x-ignored-params"] == "tools[2].custom.format"


@pytest.mark.parametrize("choice", [{"type": "custom", "name": "patch"}, "required"])
def test_a_call_comes_back_as_history(served: Served, choice: Any) -> None:
    served.use(engine_that_says(CALL))
    message = served.whole(URL, BODY)["choices"][0]["message"]
    call_id = message["tool_calls"][0]["id"]
    result = {"role": "tool", "tool_call_id": call_id, "content": "done"}
    engine = served.use(engine_that_says("Ok."))
    served.whole(URL, BODY | {"messages": [*CHAT["messages"], message, result]})
    prompt = bytes(i for i in engine.requests[0].prompt_token_ids if i < 256).decode()
    assert CALL in prompt
    assert "done" in prompt


def test_of_allowed_tools_a_custom_one_may_be_all() -> None:
    engine = engine_that_says("Hi")
    allowed = {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "patch"}}]}
    status, answer = ask(
        BODY | {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}, engine
    )
    assert status == 200, answer
    assert "get_weather" not in engine.requests[0].grammar
