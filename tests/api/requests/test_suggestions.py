"""An unknown name is refused with the name that was meant, at any depth and in every dialect."""

import asyncio
from typing import Any

import pytest

from tests.api.requests.client_requests import (
    ASSISTANT,
    CALL,
    CHAT_URL,
    EMBED_URL,
    GOOD,
    HI,
    MESSAGES_URL,
    OBJECT,
    RESPONSES_URL,
    TEXT_URL,
    tool,
)
from tests.api.requests.rule_table import DIALECTS
from tests.api.support import client_of, fake_engine, ready_state
from thirdeye.server.api.field_rules.suggestions import _MEANT, suggestion
from thirdeye.server.launch.asgi_app import create_app

OLLAMA_URL, GENERATE_URL = "/api/chat", "/api/generate"
BODIES = GOOD | {
    OLLAMA_URL: {"model": "tiny", "messages": [HI]},
    GENERATE_URL: {"model": "tiny", "prompt": "Hi"},
}
BLOCK = {"type": "text", "text": "Hi"}
SUGGESTED: list[tuple[str, dict[str, Any], str, str]] = [
    (CHAT_URL, {"temprature": 1}, "temprature", "temperature"),
    (CHAT_URL, {"stream_options": {"include_usge": True}}, "stream_options.include_usge",
     "include_usage"),
    (CHAT_URL, {"messages": [HI | {"nam": "x"}]}, "messages[0].nam", "name"),
    (CHAT_URL, {"messages": [HI, ASSISTANT | {"tool_cals": []}]}, "messages[1].tool_cals",
     "tool_calls"),
    (CHAT_URL, {"messages": [HI, ASSISTANT | {"tool_calls": [CALL | {"functon": {}}]}]},
     "messages[1].tool_calls[0].functon", "function"),
    (CHAT_URL, tool(descripton="x"), "tools[0].function.descripton", "description"),
    (CHAT_URL, {"response_format": {"type": "json_schema", "json_schemas": OBJECT}},
     "response_format.json_schemas", "json_schema"),
    (TEXT_URL, {"max_token": 1}, "max_token", "max_tokens"),
    (TEXT_URL, {"max_length": 1}, "max_length", "max_tokens"),
    (EMBED_URL, {"inputs": "a"}, "inputs", "input"),
    (RESPONSES_URL, {"text": {"verbositi": "low"}}, "text.verbositi", "verbosity"),
    (RESPONSES_URL, {"input": [{"role": "user", "contents": "Hi"}]}, "input[0].contents",
     "content"),
    (RESPONSES_URL, {"input": [{"type": "function_call", "callid": "c", "name": "f",
                                "arguments": ""}]}, "input[0].callid", "call_id"),
    (MESSAGES_URL, {"thinking": {"type": "enabled", "budget_token": 9}}, "thinking.budget_token",
     "budget_tokens"),
    (MESSAGES_URL, {"messages": [{"role": "user", "content": [BLOCK | {"citation": []}]}]},
     "messages[0].content[0].citation", "citations"),
    (MESSAGES_URL, {"tools": [{"name": "f", "inputschema": OBJECT, "input_schema": OBJECT}]},
     "tools[0].inputschema", "input_schema"),
    *((url, {"options": {name: 1}}, f"options.{name}", meant)
      for url in (OLLAMA_URL, GENERATE_URL) for name, meant in (
          ("temprature", "temperature"), ("num_predic", "num_predict"), ("numctx", "num_ctx"),
          ("max_tokens", "num_predict"), ("repetition_penalty", "repeat_penalty"),
          ("topk", "top_k"), ("nump", "num_predict"), ("numPredict", "num_predict"))),
    (CHAT_URL, {"frequencypenalty": 1}, "frequencypenalty", "frequency_penalty"),
    *((url, {name: 1}, name, f"options.{meant}")
      for url in (OLLAMA_URL, GENERATE_URL) for name, meant in (
          ("temperature", "temperature"), ("max_tokens", "num_predict"), ("seed", "seed"),
          ("stop", "stop"), ("topk", "top_k"), ("n_predict", "num_predict"))),
]  # fmt: skip
ELSEWHERE = {
    name
    for models in DIALECTS.values()
    for model in models
    for name in (*model.model_fields, *model.refused)
}
APP = create_app(ready_state(fake_engine(), max_model_len=2048))


def message_for(path: str, body: dict[str, Any]) -> str:
    async def main() -> str:
        async with client_of(APP) as client:
            answer = await client.post(path, json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            return str(error if path.startswith("/api/") else error["message"])

    return asyncio.run(main())


@pytest.mark.parametrize(("path", "change", "param", "meant"), SUGGESTED)
def test_a_misspelt_name(path: str, change: dict[str, Any], param: str, meant: str) -> None:
    message = message_for(path, BODIES[path] | change)
    assert f"'{param}'" in message
    assert message.endswith(f", did you mean '{meant}'?")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (CHAT_URL, {"input_suffix": "x"}),
        (CHAT_URL, {"messages": [HI | {"reaction": "x"}]}),
        (OLLAMA_URL, {"options": {"wibble": 1}}),
        (CHAT_URL, {"q": 1}),
    ],
)
def test_a_name_like_none_is_refused_without(path: str, change: dict[str, Any]) -> None:
    message = message_for(path, BODIES[path] | change)
    assert message.endswith("'.")
    assert "mean" not in message


def test_half_of_a_name_has_to_be_right() -> None:
    assert suggestion("no", {"n"}) == ", did you mean 'n'?"
    assert suggestion("xy", {"n"}) == "."


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_field_of_another_dialect_is_no_misspelling(dialect: str) -> None:
    """What is suggested in its place has its meaning."""
    for model in DIALECTS[dialect]:
        names = {*model.model_fields, *model.refused, *model.other_names}
        for field in sorted(ELSEWHERE - names):
            meant = suggestion(field, {*model.model_fields, *model.refused})
            assert meant == "." or meant.split("'")[1] in _MEANT[field]


@pytest.mark.parametrize(
    ("path", "name"),
    [(MESSAGES_URL, "seed"), (EMBED_URL, "stop"), (TEXT_URL, "tools"), (CHAT_URL, "steps")],
)
def test_none_is_suggested_for_it_by_its_letters(path: str, name: str) -> None:
    assert message_for(path, BODIES[path] | {name: 1}) == f"Unknown parameter '{name}'."
