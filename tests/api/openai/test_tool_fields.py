"""The fields of chat that are about tools: what passes, and every refusal with its path."""

import asyncio
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.api.openai.tools import (
    CHAT,
    MESSAGES,
    NAMED,
    TOOLS,
    URL,
    ask,
    engine_that_says,
    function,
)
from tests.api.support import client_over, ready_state
from thirdeye.server.text.tools.form import write_call


def tools(**changes: Any) -> dict[str, Any]:
    return {"tools": [TOOLS[0], {"type": "function", "function": {"name": "f"} | changes}]}


def custom(**fields: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": "patch"} | fields}


def assistant(*calls: object, **fields: Any) -> dict[str, Any]:
    return {"messages": [*MESSAGES, {"role": "assistant", "tool_calls": list(calls), **fields}]}


CALL = {"id": "call_1", **function("f", arguments="{}")}

# fmt: off
ROWS = [
    ({"tools": {"a": 1}}, "tools", "invalid_type", "must be an array, got object."),
    ({"tools": TOOLS[:1] * 129}, "tools", "array_above_max_length", "at most 128 items, got 129."),
    ({"tools": ["f"]}, "tools[0]", "invalid_type", "must be an object, got string."),
    ({"tools": [{}]}, "tools[0].type", "missing_required_parameter", "is required."),
    ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom.name",
     "missing_required_parameter", ""),
    ({"tools": [{"type": "mcp"}]}, "tools[0].type", "unsupported_value", "'custom'"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", ""),
    ({"tools": [TOOLS[0] | {"x": 1}]}, "tools[0].x", "unknown_parameter", ""),
    (tools(name=None), "tools[1].function.name", "missing_required_parameter", ""),
    (tools(name=3), "tools[1].function.name", "invalid_type", "a string, got integer."),
    (tools(name="no spaces"), "tools[1].function.name", "invalid_value", "letters, digits"),
    (tools(name=""), "tools[1].function.name", "invalid_value", "1 to 128"),
    (tools(name="x" * 129), "tools[1].function.name", "invalid_value", "1 to 128"),
    (tools(name="get_weather"), "tools[1].function.name", "invalid_value", "unique"),
    (tools(description=1), "tools[1].function.description", "invalid_type", "a string"),
    (tools(strict="yes"), "tools[1].function.strict", "invalid_type", "a boolean"),
    (tools(params={}), "tools[1].function.params", "unknown_parameter", ""),
    (tools(parameters=["a"]), "tools[1].function.parameters", "invalid_type", "an object"),
    (tools(parameters={"type": "string"}, strict=True), "tools[1].function.parameters.type",
     "invalid_schema", "'object'"),
    (tools(parameters={"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, strict=True),
     "tools[1].function.parameters", "invalid_schema", "$.properties.a.pattern must have no look"),
    (tools(parameters={"properties": {"a": {"type": "text"}}}, strict=True),
     "tools[1].function.parameters", "invalid_schema", "$.properties.a"),
    (tools(parameters={"x": 1, "properties": {"a": {"type": 1}}}, strict=True),
     "tools[1].function.parameters", "invalid_schema", "$.x"),
    ({"tool_choice": "some"}, "tool_choice", "invalid_value", "'none', 'auto', 'required'"),
    ({"tool_choice": 1}, "tool_choice", "invalid_type", "a string or an object, got integer."),
    ({"tool_choice": function("f")}, "tool_choice", "invalid_value", "get_weather, now."),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter",
     ""),
    ({"tool_choice": {"type": "function", "function": {"name": "now", "x": 1}}},
     "tool_choice.function.x", "unknown_parameter", ""),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
     "tool_choice.allowed_tools.mode", "missing_required_parameter", ""),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.tools",
     "invalid_value", "hold a function"),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [function("f")]}},
     "tool_choice", "invalid_value", "get_weather, now."),
    ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice",
     "invalid_value", "get_weather, now."),
    ({"tool_choice": {"type": "mcp"}}, "tool_choice.type", "unsupported_value", "'custom'"),
    ({"tools": [{"type": "custom"}]}, "tools[0].custom", "missing_required_parameter", ""),
    ({"tools": [custom(format={"type": "json"})]}, "tools[0].custom.format.type",
     "invalid_value", "'grammar'"),
    ({"tools": [custom(format={"type": "grammar", "grammar": {"syntax": "gbnf"}})]},
     "tools[0].custom.format.grammar.syntax", "invalid_value", "'lark' or 'regex'"),
    ({"tools": [custom(format={"type": "grammar", "syntax": "lark"})]},
     "tools[0].custom.format.definition", "missing_required_parameter", ""),
    ({"tools": [custom(format={"type": "grammar", "syntax": "lark", "definition": "start: x"})]},
     "tools[0].custom.format", "invalid_schema", "cannot be compiled"),
    ({"tools": [custom(format={"type": "grammar", "syntax": "regex", "definition": "(?!a)b"})]},
     "tools[0].custom.format", "invalid_schema", "' must have no look-around, as"),
    ({"tools": [custom(parameters={})]}, "tools[0].custom.parameters", "unknown_parameter", ""),
    ({"tools": [], "tool_choice": "required"}, "tool_choice", "invalid_value", "without 'tools'"),
    ({"tools": None, "tool_choice": NAMED}, "tool_choice", "invalid_value", "without 'tools'"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls", "invalid_type", "a boolean"),
    ({"ignore_eos": True}, "ignore_eos", "invalid_value", "grammar"),
    ({"functions": [{}]}, "functions[0].name", "missing_required_parameter", ""),
    ({"function_call": {"name": None}}, "function_call.name", "missing_required_parameter", ""),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id",
     "missing_required_parameter", ""),
    (assistant({}), "messages[1].tool_calls[0].id", "missing_required_parameter", ""),
    (assistant(CALL | {"type": "mcp"}), "messages[1].tool_calls[0].type", "invalid_value",
     "'function', 'custom'"),
    (assistant({"id": "1", "type": "custom", "custom": {"name": "x", "input": 3}}),
     "messages[1].tool_calls[0].custom.input", "invalid_type", "must be a string, got"),
    (assistant(CALL | {"at": 0}), "messages[1].tool_calls[0].at", "unknown_parameter", ""),
    (assistant({"id": "1", **function("f", arguments=["a"])}),
     "messages[1].tool_calls[0].function.arguments", "invalid_type", "an object, got array."),
    (assistant(CALL, content=3), "messages[1].content", "invalid_type", "a string or a list"),
]
# fmt: on


@pytest.mark.parametrize(("change", "param", "code", "says"), ROWS, ids=[r[1] for r in ROWS])
def test_each_bad_field_is_refused_by_its_path(
    change: dict[str, Any], param: str, code: str, says: str
) -> None:
    """One problem, the first, in one sentence; the engine never sees the request."""
    engine = engine_that_says("Hi")
    status, answer = ask(CHAT | change, engine)
    error = answer["error"]
    assert (status, error["param"], error["code"]) == (400, param, code)
    assert f"'{param}'" in error["message"]
    assert says in error["message"]
    assert len(error["message"]) <= 300
    assert engine.requests == []


@pytest.mark.parametrize(
    "change",
    [
        {"tools": []},
        {"tools": None, "tool_choice": "none"},
        {"tools": None, "parallel_tool_calls": True},
        {"tool_choice": None, "parallel_tool_calls": None},
        {"tools": [function("f", strict=True, description=None, parameters=None)]},
        {"tool_choice": "none", "ignore_eos": True, "max_tokens": 1},
        assistant(CALL, content=None),
        assistant(CALL, content="Let me see."),
        assistant({"id": "1", **function("f", arguments='{"cut sho')}),
    ],
)
def test_neutral_and_good_values_pass(change: dict[str, Any]) -> None:
    status, answer = ask(CHAT | change)
    assert status == 200, answer


def test_a_model_without_a_template_has_no_tools() -> None:
    status, answer = ask(CHAT, template=None)
    error = answer["error"]
    assert (status, error["param"], error["code"]) == (400, "tools", "tools_not_supported")
    assert "'tiny'" in error["message"]


def test_tools_count_in_the_context() -> None:
    """What does not fit is refused with the numbers, tools and all."""

    async def main() -> tuple[int, dict[str, Any]]:
        async with client_over(ready_state(engine_that_says("Hi"))) as client:
            answer = await client.post(URL, json=CHAT)
            return answer.status_code, answer.json()

    status, answer = asyncio.run(main())
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


def test_of_the_tools_that_are_shown_only_those_that_are_allowed_can_be_called() -> None:
    engine = engine_that_says("Hi")
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "now"}}]}
    choice = {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}
    status, answer = ask(CHAT | choice, engine)
    assert status == 200, answer
    (asked,) = engine.requests
    assert "now" in asked.grammar
    assert "get_weather" not in asked.grammar
    every = engine_that_says("Hi")
    ask(CHAT, every)
    assert "get_weather" in every.requests[0].grammar
    assert every.requests[0].prompt_token_ids == asked.prompt_token_ids


@pytest.mark.parametrize(("limit", "num_calls"), [(1, 1), (2, 2), (3, 3), (None, 4), (1000, 4)])
def test_calls_beyond_max_tool_calls_are_not_made(limit: int | None, num_calls: int) -> None:
    engine = engine_that_says("Hi")
    status, answer = ask(CHAT | {"max_tool_calls": limit, "tool_choice": "required"}, engine)
    assert status == 200, answer
    calls = [write_call("now", "{}")] * 4
    follower = LLMatcher(LLTokenizer("byte"), engine.requests[0].grammar)
    text = "\n".join(calls)
    wanted = len("\n".join(calls[:num_calls]))
    assert follower.validate_tokens(list(text.encode())) == wanted
