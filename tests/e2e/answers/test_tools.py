"""Tools from a client to the transformer and back: the real server, the official client.

The tiny model is random and would write noise, so whatever calls it makes are the grammar's doing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pydantic
import pytest

from tests.draws import is_night
from tests.e2e.in_process import served
from tests.e2e.resident import DefaultServer
from tests.tiny import tiny_llama

pytestmark = [pytest.mark.prove] if is_night() else []
MESSAGES: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
NUMBER = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMAS: dict[str, Any] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Paris", 'Ros"}é', "</tool_call>"]},
            "days": NUMBER,
            "hours": {"type": "array", "items": NUMBER, "maxItems": 2},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}
    for name, schema in SCHEMAS.items()
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Forecast(pydantic.BaseModel):
    """The weather of the next days."""

    city: Literal["Paris", "Rome"]
    days: Literal[1, 2, 3]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tiny chat model, with a context that has room for tools."""
    path: Path = tmp_path_factory.mktemp("tiny-tools")
    tiny_llama(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    with served(path, max_num_seqs=8) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(url: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "messages": MESSAGES, "tools": TOOLS, "max_tokens": 250} | fields
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    choices: list[dict[str, Any]] = answer.json()["choices"]
    return choices


def check(call: dict[str, Any]) -> None:
    function = call["function"]
    jsonschema.validate(json.loads(function["arguments"]), SCHEMAS[function["name"]])


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop")])
def test_calls_parse_and_validate(
    url: str, choice: object, reason: str, temperature: float
) -> None:
    """Random weights, greedy and drawn: one call each, and nothing beside it."""
    choices = ask(
        url,
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=temperature,
        seed=1,
        n=1 + 3 * temperature,
        logprobs=True,
        frequency_penalty=-0.5,  # it likes to copy itself, so that drafts are made
    )
    for found in choices:
        assert found["finish_reason"] == reason
        assert found["message"]["content"] is None
        (call,) = found["message"]["tool_calls"]
        check(call)
        assert choice != NAMED or call["function"]["name"] == "get_weather"
        said = b"".join(bytes(t["bytes"] or b"") for t in found["logprobs"]["content"]).decode()
        assert call["function"]["arguments"] in said


def test_several_calls_may_be_made(url: str) -> None:
    """In parallel it goes on until it ends by itself, or `length` cuts the last call."""
    choices = ask(url, tool_choice="required", n=4, seed=2, max_tokens=300)
    for found in choices:
        calls = found["message"]["tool_calls"]
        for call in calls[:-1] if found["finish_reason"] == "length" else calls:
            check(call)
    assert any(len(found["message"]["tool_calls"]) > 1 for found in choices)


def test_stop_strings_cut_no_call(url: str) -> None:
    (found,) = ask(url, tool_choice=NAMED, temperature=0, stop=["\n", "{", "name", "}"])
    check(found["message"]["tool_calls"][0])
    assert found["finish_reason"] == "stop"


def test_auto_beside_a_response_format(url: str) -> None:
    """Content in its format or calls: with random weights still one of the two."""
    schema = {"type": "object", "properties": {"n": NUMBER}, "required": ["n"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for found in ask(url, response_format=form, n=4, seed=3, parallel_tool_calls=False):
        message = found["message"]
        if calls := message.get("tool_calls"):
            check(calls[0])
        else:
            jsonschema.validate(json.loads(message["content"]), schema)


def test_the_official_client_streams_what_it_gets_whole(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required"}
    asked |= {"parallel_tool_calls": False, "seed": 5, "max_tokens": 250}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.message.tool_calls is not None
    name, arguments = "", ""
    for chunk in client.chat.completions.create(**asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    function = whole.message.tool_calls[0].function  # type: ignore[union-attr] # no custom tools
    assert (name, arguments) == (function.name, function.arguments)


def test_the_official_client_parses_into_models(client: openai.OpenAI) -> None:
    """`parse` and the stream helper give the tool's own pydantic model back."""
    asked: Any = {
        "model": "tiny",
        "messages": MESSAGES,
        "tools": [openai.pydantic_function_tool(Forecast)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "seed": 6,
        "max_tokens": 250,
    }
    answer = client.chat.completions.parse(**asked)
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Forecast)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    assert streamed.function.parsed_arguments == call.function.parsed_arguments


def test_a_whole_conversation(client: openai.OpenAI) -> None:
    """An answer goes back as it came, with its result, and is understood as history."""
    asked: Any = {"model": "tiny", "tools": TOOLS, "max_tokens": 200, "temperature": 0}
    first = client.chat.completions.create(**asked, messages=MESSAGES, tool_choice=NAMED)
    message = first.choices[0].message
    (call,) = message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages: Any = [*MESSAGES, message, result]
    second = client.chat.completions.create(**asked, messages=messages, tool_choice="none")
    assert second.choices[0].message.content
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > 0


@pytest.mark.real
def test_the_default_model_calls_a_tool_by_name(default_server: DefaultServer) -> None:
    """It was not made for tools, and fills this one in all the same."""
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 40}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    fields: Any = {"model": "smollm2", "tools": [tool], "tool_choice": NAMED, "temperature": 0}
    (found,) = ask(default_server.server.url, **fields, max_tokens=80)
    (call,) = found["message"]["tool_calls"]
    assert (call["function"]["name"], found["finish_reason"]) == ("get_weather", "stop")
    arguments = json.loads(call["function"]["arguments"])
    jsonschema.validate(arguments, parameters)
    assert arguments["city"] == "Paris"
