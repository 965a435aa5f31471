"""`functions` and `function_call`, OpenAI's deprecated form of tools, against tools themselves."""

from typing import Any

import pytest

from tests.api.openai.test_tools import choice_of, prompt_of, stream
from tests.api.openai.tools import CHAT, MESSAGES, ONE, PARIS, TOOLS, ask, engine_that_says

FUNCTIONS = [tool["function"] for tool in TOOLS]
PLAIN: dict[str, Any] = {"model": "tiny", "messages": MESSAGES}
OLD = PLAIN | {"functions": FUNCTIONS}
WEATHER = {"name": "get_weather"}
CALLED = {"role": "assistant", "content": None, "function_call": WEATHER | {"arguments": PARIS}}
RESULT = {"role": "function", "name": "get_weather", "content": "sunny"}


def test_a_call_is_the_older_message() -> None:
    choice = choice_of(OLD, engine_that_says(ONE))
    assert choice["finish_reason"] == "function_call"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "function_call": {"name": "get_weather", "arguments": PARIS},
    }


@pytest.mark.parametrize("said", [ONE, f"I see. {ONE}", "Nothing to call."])
def test_a_stream_adds_up_to_the_whole(said: str) -> None:
    whole = choice_of(OLD, engine_that_says(said))
    choices = [chunk["choices"][0] for chunk in stream(OLD, engine_that_says(said))]
    deltas = [choice["delta"] for choice in choices]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    content = "".join(delta.get("content") or "" for delta in deltas)
    assert content == (whole["message"]["content"] or "")
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    assert not any("tool_calls" in delta for delta in deltas)
    if ONE in said:
        assert [call.get("name") for call in calls] == ["get_weather", *[None] * (len(calls) - 1)]
        arguments = "".join(call["arguments"] for call in calls)
        assert whole["message"]["function_call"] == WEATHER | {"arguments": arguments}
    else:
        assert calls == []
        assert "function_call" not in whole["message"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        (WEATHER, {"type": "function", "function": WEATHER}),
    ],
)
def test_the_engine_is_asked_what_tools_would_ask(old: Any, new: Any) -> None:
    """One call at most: the older message has no place for another."""
    engine = engine_that_says(ONE)
    assert ask(OLD | {"function_call": old}, engine)[0] == 200
    assert ask(CHAT | {"tool_choice": new, "parallel_tool_calls": False}, engine)[0] == 200
    first, second = engine.requests
    assert first.prompt_token_ids == second.prompt_token_ids
    assert first.grammar == second.grammar


def test_a_history_is_that_of_tools() -> None:
    call = {"id": "call00001", "type": "function", "function": CALLED["function_call"]}
    tool = RESULT | {"role": "tool", "tool_call_id": "call00001"}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    question = MESSAGES[0]
    older = prompt_of(OLD | {"messages": [question, CALLED, RESULT, question]})
    assert older == prompt_of(CHAT | {"messages": [question, turn, tool, question]})
    assert "sunny" in older


def test_a_named_function_ends_with_stop() -> None:
    """As OpenAI has it, and as tools do."""
    choice = choice_of(OLD | {"function_call": WEATHER}, engine_that_says(ONE))
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["function_call"]["name"] == "get_weather"
