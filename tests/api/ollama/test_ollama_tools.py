"""Tools in Ollama's dialect: calls come in one piece with an object of arguments, their results
find them without ids, and the engine is asked what chat would ask it."""

from typing import Any

import pytest

from tests.api.ollama.lines import CHAT, Json, joined, lines, whole, without_times
from tests.api.openai.tools import (
    CHAT as ASK,
)
from tests.api.openai.tools import ONE, PARIS, TOOLS, TWO, engine_that_says
from tests.api.support import Served
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.ollama.as_ours import messages_of
from thirdeye.server.api.ollama.schema import OllamaChatRequest
from thirdeye.server.text.tools.form import write_call

MIXED = f"Let me look. {TWO}"
CALLS = [
    {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}},
    {"index": 1, "name": "now", "arguments": {}},
]


@pytest.fixture
def served(tool_server: Served) -> Served:
    tool_server.use(engine_that_says(MIXED))
    return tool_server


def test_calls_are_whole_and_have_objects(served: Served) -> None:
    answer = whole(served, CHAT, ASK)
    calls = answer["message"]["tool_calls"]
    assert [call["function"] for call in calls] == CALLS
    assert len({call["id"] for call in calls}) == 2
    assert answer["message"]["content"].strip() == "Let me look."
    assert answer["done_reason"] == "stop"


@pytest.mark.parametrize("text", [ONE, TWO, MIXED, "No call."])
@pytest.mark.parametrize("step", [1, 2, 7, 500])
def test_the_lines_add_up_to_the_whole(served: Served, text: str, step: int) -> None:
    served.use(engine_that_says(text, tokens_per_step=step))
    found = lines(served, CHAT, ASK)
    assert without_times(joined(found)) == without_times(whole(served, CHAT, ASK))
    assert "tool_calls" not in found[-1]["message"]


def test_a_call_that_is_cut_is_left_out(served: Served) -> None:
    """There is no object to show for it; the reason says that the answer is not complete."""
    served.use(engine_that_says(TWO))
    cut = len(TWO) - 25
    answer = whole(served, CHAT, ASK | {"options": {"num_predict": cut}})
    assert [call["function"] for call in answer["message"]["tool_calls"]] == CALLS[:1]
    assert answer["done_reason"] == "length"


def test_the_engine_is_asked_what_chat_asks(served: Served) -> None:
    engine = served.use(engine_that_says(TWO))
    whole(served, CHAT, ASK)
    served.whole("/v1/chat/completions", ASK)
    plain = [{"function": tool["function"]} for tool in TOOLS]  # `type` may be left out
    whole(served, CHAT, ASK | {"tools": plain})
    first, *others = engine.requests
    assert first.grammar
    for other in others:
        assert (other.prompt_token_ids, other.grammar) == (first.prompt_token_ids, first.grammar)


def test_calls_go_back_with_their_results(served: Served) -> None:
    message = whole(served, CHAT, ASK)["message"]
    results = [
        {"role": "tool", "tool_name": "now", "content": "noon"},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    engine = served.use(engine_that_says("Sunny."))
    whole(served, CHAT, ASK | {"messages": [*ASK["messages"], message, *results]})
    assert isinstance(engine, FakeEngine)
    prompt = bytes(i for i in engine.requests[-1].prompt_token_ids if i < 256).decode()
    assert write_call("get_weather", PARIS) in prompt
    assert prompt.index("noon") < prompt.index("sunny")


def chat_messages(*turns: Json) -> list[dict[str, Any]]:
    return messages_of(OllamaChatRequest.model_validate({"messages": list(turns)}).messages)


def call(name: str, **more: Any) -> Json:
    return {"function": {"name": name, "arguments": {}}} | more


def test_results_find_their_calls() -> None:
    """By id, by name in its older or newer field, or in order; a result of no call has its own."""
    found = chat_messages(
        {"role": "assistant", "thinking": "Hm.", "tool_calls": [call("a"), call("b"), call("a")]},
        {"role": "tool", "name": "b", "content": "1"},
        {"role": "tool", "tool_name": "a", "name": "a", "content": "2"},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "tool_calls": [call("c", id="mine")]},
        {"role": "tool", "tool_call_id": "mine", "content": "4"},
        {"role": "tool", "content": "5"},
    )
    assert found[0]["reasoning_content"] == "Hm."
    assert [c["id"] for c in found[0]["tool_calls"]] == ["call00001", "call00002", "call00003"]
    results = [(m["tool_call_id"], m["name"]) for m in found if m["role"] == "tool"]
    assert results == [
        ("call00002", "b"),
        ("call00001", "a"),
        ("call00003", "a"),
        ("mine", "c"),
        ("call00004", None),
    ]
