"""litellm's SDK: a tool's round, structured output, embeddings; over chat, over Messages and over
Ollama's API."""

import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # noqa: TID251  # or it asks the internet

import litellm
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


FUNCTION = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
TOOLS = [{"type": "function", "function": FUNCTION}]


def ask(messages, server, stream, **fields):
    """The message of an answer; a stream's is put together by litellm."""
    answer = litellm.completion(messages=messages, stream=stream, **server, **fields)
    if stream:
        chunks = list(answer)
        assert len(chunks) > 1, "it came in one piece"
        answer = litellm.stream_chunk_builder(chunks, messages=messages)
    return answer.choices[0].message


def rounds(server, stream) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    message = ask(messages, server, stream, tools=TOOLS, max_tokens=1000)
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}, call
    messages.append(message.model_dump())  # with every mark that litellm keeps on it
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "21 degrees"})
    answer = ask(messages, server, stream, tools=TOOLS, max_tokens=1000)
    assert answer.content == "The tool says: 21 degrees", answer


def main(url: str) -> None:
    litellm.suppress_debug_info = True  # what it does not know the price of it would speak of
    chat = {"model": "openai/tiny", "api_base": f"{url}/v1", "api_key": "none"}
    messages = {"model": "anthropic/claude-tiny", "api_base": url, "api_key": "none"}
    ollama = {"model": "ollama_chat/tiny", "api_base": url}
    for server in (chat, messages, ollama):
        for stream in (False, True):
            rounds(server, stream)
    for stream in (False, True):
        asked = [{"role": "user", "content": "Anna is 30 years old."}]
        for server in (chat, ollama):
            written = ask(asked, server, stream, response_format=Person).content
            assert Person.model_validate_json(written) == Person(name="Anna", age=30), written
    for server in (chat, ollama | {"model": "ollama/tiny"}):
        assert len(litellm.embedding(input=["a", "b"], **server).data) == 2
    print("litellm: done")


main(sys.argv[1])
