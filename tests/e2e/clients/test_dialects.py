"""The other dialects over the real engine, through their official clients: formats and tools that
a grammar enforces, so that even a small model's answers always parse."""

import json
from typing import Literal

import anthropic
import ollama
import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.real

CITY = {"type": "string", "enum": ["Paris", "London"]}
SCHEMA = {
    "type": "object",
    "properties": {"city": CITY},
    "required": ["city"],
    "additionalProperties": False,
}


class Fact(BaseModel):
    capital: Literal["Paris", "London"]
    is_in_europe: bool


@pytest.fixture
def openai_client(default_server):
    with openai.OpenAI(
        base_url=f"{default_server.server.url}/v1", api_key="x", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def anthropic_client(default_server):
    with anthropic.Anthropic(
        base_url=default_server.server.url, api_key="x", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def ollama_client(default_server):
    with ollama.Client(host=default_server.server.url, trust_env=False) as client:
        yield client


def test_an_answer_parses_into_a_pydantic_model(openai_client) -> None:
    response = openai_client.responses.parse(
        model="smollm2", input="What is the capital of France?", text_format=Fact, temperature=0
    )
    assert isinstance(response.output_parsed, Fact)
    assert response.status == "completed"


def test_four_dialects_say_the_same(openai_client, anthropic_client, ollama_client) -> None:
    """One engine, one template: greedy, the words are equal."""
    question = [{"role": "user", "content": "What is the capital of Japan?"}]
    fields = {"model": "smollm2", "temperature": 0}
    chat = openai_client.chat.completions.create(messages=question, max_tokens=50, **fields)
    said = chat.choices[0].message.content
    responded = openai_client.responses.create(input=question, max_output_tokens=50, **fields)
    assert responded.output_text == said
    message = anthropic_client.messages.create(
        model="smollm2", max_tokens=50, messages=question, extra_body={"temperature": 0}
    )
    assert message.content[0].text == said
    options = {"temperature": 0, "num_predict": 50}
    assert ollama_client.chat("smollm2", question, options=options).message.content == said
    asked = {"prompt": question[0]["content"], "options": options, "stream": True}
    assert "".join(p.response for p in ollama_client.generate("smollm2", **asked)) == said


def test_a_real_model_shows_what_it_is(ollama_client, openai_client) -> None:
    (first, *_) = ollama_client.list().models
    assert first.model == "smollm2:latest"
    assert 80e6 < first.size < 120e6
    assert (first.details.format, first.details.family) == ("gguf", "llama")
    assert first.details.parameter_size == "134.52M"
    shown = ollama_client.show("smollm2")
    context = openai_client.models.retrieve("smollm2").max_model_len
    assert shown.modelinfo["llama.context_length"] == context
    assert ollama_client.ps().models[0].context_length == context
    assert shown.details.quantization_level == "Q4_1"


def test_a_schema_is_followed_in_lines(ollama_client) -> None:
    found = ollama_client.chat(
        "smollm2",
        [{"role": "user", "content": "What is the capital of France?"}],
        format=Fact.model_json_schema(),
        options={"temperature": 0, "num_predict": 60},
        stream=True,
    )
    Fact.model_validate_json("".join(part.message.content for part in found))


def test_a_tool_must_be_called_and_is(openai_client, anthropic_client) -> None:
    question = "What is the weather in Paris?"
    tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA}
    with openai_client.responses.stream(
        model="smollm2", input=question, tools=[tool], tool_choice="required",
        parallel_tool_calls=False, temperature=0,
    ) as stream:  # fmt: skip
        (call,) = stream.get_final_response().output
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] in ("Paris", "London")
    with anthropic_client.messages.stream(
        model="smollm2",
        max_tokens=100,
        messages=[{"role": "user", "content": question}],
        tools=[{"name": "get_weather", "input_schema": SCHEMA}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        extra_body={"temperature": 0},
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert message.content[0].input["city"] in ("Paris", "London")
