"""What has nothing in it asks for nothing: `""`, `[]` and `{}` of every field that may be left out,
in every dialect, are no error and no hint that was ignored."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.requests.client_requests import (
    CALL,
    CHAT_URL,
    EMBED_URL,
    GOOD,
    HI,
    MESSAGES_URL,
    RESPONSES_URL,
    TEXT_URL,
    said,
    tool,
)
from tests.api.requests.rule_table import DIALECTS
from tests.api.support import client_of, fake_engine, ready_state
from thirdeye.server.api.field_rules.ignored import Ignored
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.launch.asgi_app import create_app

OLLAMA_URL, GENERATE_URL, OLLAMA_EMBED_URL = "/api/chat", "/api/generate", "/api/embed"
ASKED = GOOD | {
    OLLAMA_URL: {"model": "tiny", "messages": [HI], "stream": False},
    GENERATE_URL: {"model": "tiny", "prompt": "Hi", "stream": False},
    OLLAMA_EMBED_URL: {"model": "tiny", "input": "Hi"},
}
MODEL_OF = {
    CHAT_URL: "ChatRequest",
    TEXT_URL: "CompletionRequest",
    EMBED_URL: "EmbeddingRequest",
    RESPONSES_URL: "ResponsesRequest",
    MESSAGES_URL: "MessagesRequest",
    OLLAMA_URL: "OllamaChatRequest",
    GENERATE_URL: "OllamaGenerateRequest",
    OLLAMA_EMBED_URL: "OllamaEmbedRequest",
}
BODIES: dict[str, dict[str, Any]] = {name: ASKED[path] for path, name in MODEL_OF.items()}
BODIES["OllamaOptions"] = {}
MODELS = {model.__name__: model for models in DIALECTS.values() for model in models}
ASK_BY_BEING_THERE = {("web_search_options", "{}")}
APP = create_app(ready_state(fake_engine(), max_model_len=2048))


def sent(path: str, body: dict[str, Any]) -> httpx.Response:
    async def main() -> httpx.Response:
        async with client_of(APP) as client:
            return await client.post(path, json=body)

    return asyncio.run(main())


def optional_fields(model: type[Strict]) -> list[str]:
    fields = model.model_fields.items()
    ours = [field.alias or name for name, field in fields if not field.is_required()]
    return [*ours, *model.refused, *model.other_names]


@pytest.mark.parametrize("empty", ["", [], {}], ids=repr)
@pytest.mark.parametrize("name", MODELS)
def test_a_field_that_may_be_left_out_may_be_empty(name: str, empty: Any) -> None:
    model, body = MODELS[name], BODIES[name]
    for field in optional_fields(model):
        if (field, repr(empty)) in ASK_BY_BEING_THERE:
            continue
        ignored = Ignored()
        parse(model, body | {field: empty}, ignored)
        assert not ignored.names, field


@pytest.mark.parametrize("empty", ["", [], {}], ids=repr)
@pytest.mark.parametrize("path", ASKED)
def test_all_of_them_at_once_ask_for_the_same_answer(path: str, empty: Any) -> None:
    """But for those that have a meaning of their own for it: a schema of anything, a text."""
    meant = {"json_schema", "guided_json", "format", "prompt", "instructions", "system", "model"}
    more = {
        field: empty
        for field in optional_fields(MODELS[MODEL_OF[path]])
        if field not in meant | ASKED[path].keys()
        and (field, repr(empty)) not in ASK_BY_BEING_THERE
    }
    answer = sent(path, ASKED[path] | more)
    assert answer.status_code == 200, answer.text
    assert "x-ignored-params" not in answer.headers


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (CHAT_URL, {"tools": [{"type": "function", "function": {
            "name": "f", "parameters": [], "strict": "", "description": []}}]}),
        (CHAT_URL, tool() | {"tool_choice": ""}),
        (CHAT_URL, {"reasoning": {"effort": ""}, "thinking": {}, "think": ""}),
        (CHAT_URL, {"response_format": {}}),
        (CHAT_URL, {"response_format": {"type": "json_schema", "json_schema": {
            "name": "", "strict": "", "schema": {"type": "object"}}}}),
        (CHAT_URL, said({"role": "assistant", "content": [{
            "type": "output_text", "text": "a", "annotations": [], "logprobs": []}]}, HI)),
        *((CHAT_URL, said({"role": "assistant", "tool_calls": [
            {"id": "c", "type": "", "function": {"name": "f", "arguments": given}}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"})) for given in (None, "", [])),
        (RESPONSES_URL, {"tool_choice": "", "reasoning": {"effort": "", "summary": ""},
                         "previous_response_id": "", "conversation": {}, "prompt": ""}),
        (RESPONSES_URL, {"input": [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": None},
            {"type": "function_call_output", "call_id": "c", "output": "x"}]}),
        (MESSAGES_URL, {"tool_choice": {}, "thinking": {}, "output_config": {"effort": ""},
                        "service_tier": "", "container": ""}),
        (MESSAGES_URL, {"messages": [HI, {"role": "assistant", "content": [
            {"type": "text", "text": "a", "citations": [], "cache_control": {}},
            {"type": "tool_use", "id": "c", "name": "f", "input": None}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]}]}),
        (OLLAMA_URL, {"options": {"temperature": "", "numa": False, "mirostat": ""}, "think": ""}),
        (OLLAMA_URL, {"messages": [HI, {"role": "assistant", "content": "", "tool_calls": [
            {"type": "", "function": {"name": "f", "arguments": None}}]},
            {"role": "tool", "content": "x", "tool_name": "f"}]}),
    ],
    ids=str,
)  # fmt: skip
def test_inside_of_a_field_too(path: str, change: dict[str, Any]) -> None:
    answer = sent(path, ASKED[path] | change)
    assert answer.status_code == 200, answer.text
    assert "x-ignored-params" not in answer.headers


def test_arguments_that_are_not_there_are_an_object_without_keys() -> None:
    engine = fake_engine()
    app = create_app(ready_state(engine, max_model_len=2048))
    prompts = []
    for arguments in ({}, "{}", None, "", []):
        call = CALL | {"function": {"name": "f", "arguments": arguments}}
        body = GOOD[CHAT_URL] | said({"role": "assistant", "tool_calls": [call]})

        async def main(body: dict[str, Any] = body) -> None:
            async with client_of(app) as client:
                assert (await client.post(CHAT_URL, json=body)).status_code == 200

        asyncio.run(main())
        prompts.append(engine.requests[-1].prompt_token_ids)
    assert all(prompt == prompts[0] for prompt in prompts)


@pytest.mark.parametrize(
    ("path", "change", "param"),
    [
        (CHAT_URL, {"messages": []}, "messages"),
        (CHAT_URL, {"messages": ""}, "messages"),
        (CHAT_URL, {"temprature": ""}, "temprature"),
        (CHAT_URL, {"seed": "7"}, "seed"),
        (CHAT_URL, {"web_search_options": {}}, "web_search_options"),
        (MESSAGES_URL, {"max_tokens": ""}, "max_tokens"),
        (RESPONSES_URL, {"input": {}}, "input"),
    ],
)
def test_what_is_wanted_or_unknown_is_refused_as_ever(
    path: str, change: dict[str, Any], param: str
) -> None:
    answer = sent(path, ASKED[path] | change)
    assert answer.status_code == 400, answer.text
    assert f"'{param}" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ASKED)
def test_hints_are_taken_wherever_they_come(path: str) -> None:
    hints = {
        "cache_control": {"type": "ephemeral"},
        "client_metadata": {"a": "b"},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
        "store": True,
        "truncation": "auto",
        "verbosity": "low",
    }
    answer = sent(path, ASKED[path] | hints)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-params"] == ", ".join(sorted(hints))
