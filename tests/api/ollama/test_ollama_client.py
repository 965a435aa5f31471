"""The official `ollama` package against a live server: what its callers will use, unchanged."""

import asyncio
from collections.abc import Iterator

import ollama
import pytest
from pydantic import BaseModel

from tests.api.openai.tools import engine_that_says, state_of
from tests.api.reasoning.thinker import ANSWER, SWITCHED
from tests.api.support import ByteTokenizer, Served, fake_engine, live, says
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tools.form import write_call

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    state = state_of(engine_that_says("Hello!"))
    with live(state, ApiConfig(version="1.2.3")) as url:
        yield Served(url, state)


@pytest.fixture
def served(shared: Served) -> Served:
    shared.use(engine_that_says("Hello!"))
    return shared


@pytest.fixture
def client(served: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=served.url, trust_env=False) as client:
        yield client


def test_chat(client: ollama.Client) -> None:
    answer = client.chat("tiny", MESSAGES, options={"temperature": 0, "num_ctx": 2048})
    assert answer.message.content == "Hello!"
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (19, 7)
    assert answer.total_duration
    assert answer.created_at


def test_chat_streamed(client: ollama.Client) -> None:
    found = list(client.chat("tiny:latest", MESSAGES, stream=True, keep_alive="5m"))
    assert "".join(part.message.content or "" for part in found) == "Hello!"
    assert [part.done for part in found] == [False] * 6 + [True]
    assert found[-1].eval_count == 7


def test_chat_awaited(served: Served) -> None:
    async def main() -> tuple[str | None, str]:
        client = ollama.AsyncClient(host=served.url, trust_env=False)
        whole = await client.chat("tiny", MESSAGES)
        parts = [
            p.message.content or "" async for p in await client.chat("tiny", MESSAGES, stream=True)
        ]
        await client.close()
        return whole.message.content, "".join(parts)

    assert asyncio.run(main()) == ("Hello!", "Hello!")


def test_generate(client: ollama.Client) -> None:
    whole = client.generate("tiny", "Hi", system="Be kind.", options=ollama.Options(num_predict=3))
    assert (whole.response, whole.done_reason) == ("Hel", "length")
    found = list(client.generate("tiny", "Hi", raw=True, stream=True))
    assert "".join(part.response or "" for part in found) == "Hello!"
    assert client.generate("tiny").done_reason == "load"


def test_logprobs(client: ollama.Client) -> None:
    answer = client.generate("tiny", "Hi", logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None
    assert [entry.token for entry in answer.logprobs] == [*"Hello!", "<|end|>"]
    assert len(answer.logprobs[0].top_logprobs or []) == 2


def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
      city: where
    """
    return f"sunny in {city}"


def test_tools(client: ollama.Client, served: Served) -> None:
    """A Python function is the tool; its call is run, and what it said goes back."""
    served.use(engine_that_says(write_call("get_weather", '{"city": "Paris"}')))
    first = client.chat("tiny", MESSAGES, tools=[get_weather])
    (call,) = first.message.tool_calls or []
    assert call.function.name == "get_weather"
    said = get_weather(**call.function.arguments)
    result = {"role": "tool", "tool_name": call.function.name, "content": said}
    engine = served.use(engine_that_says("It is sunny."))
    second = client.chat("tiny", [*MESSAGES, first.message, result], tools=[get_weather])
    assert second.message.content == "It is sunny."
    prompt = bytes(i for i in engine.requests[-1].prompt_token_ids if i < 256).decode()
    assert "sunny in Paris" in prompt
    assert "The weather of a city." in prompt


def test_tools_streamed(client: ollama.Client, served: Served) -> None:
    served.use(engine_that_says("Wait. " + write_call("get_weather", '{"city": "Paris"}')))
    found = list(client.chat("tiny", MESSAGES, tools=[get_weather], stream=True))
    (calls,) = [part.message.tool_calls for part in found if part.message.tool_calls]
    assert calls[0].function.arguments == {"city": "Paris"}


class City(BaseModel):
    name: str
    population: int


def test_structured_output(client: ollama.Client, served: Served) -> None:
    engine = served.use(engine_that_says('{"name": "Paris", "population": 2}'))
    answer = client.chat("tiny", MESSAGES, format=City.model_json_schema())
    assert City.model_validate_json(answer.message.content or "") == City(
        name="Paris", population=2
    )
    assert engine.requests[-1].grammar


def test_thinking(client: ollama.Client, served: Served) -> None:
    served.use(fake_engine(ANSWER), template=ChatTemplate(SWITCHED, ByteTokenizer()))
    answer = client.chat("tiny", MESSAGES, think=True)
    assert (answer.message.thinking, answer.message.content) == ("Let me see.", "Hello!")
    found = list(client.generate("tiny", "Hi", think=True, stream=True))
    assert "".join(part.thinking or "" for part in found) == "Let me see."


def test_embeddings(client: ollama.Client) -> None:
    answer = client.embed("tiny", ["Hi", "you"], truncate=True)
    assert len(answer.embeddings) == 2
    assert answer.prompt_eval_count == 5
    older = client.embeddings("tiny", "Hi")
    assert list(older.embedding) == list(answer.embeddings[0])


def test_what_is_served(client: ollama.Client) -> None:
    names = [model.model for model in client.list().models]
    assert names == ["tiny:latest", "org/tiny:latest"]
    for name in names:
        assert name is not None
        assert client.show(name).capabilities == ["completion", "tools"]
        assert client.chat(name, MESSAGES).message.content == "Hello!"
    (loaded,) = client.ps().models
    assert (loaded.name, loaded.context_length) == ("tiny:latest", 8192)


def test_what_is_not_done_for_callers(client: ollama.Client) -> None:
    """Each refusal says what to do instead."""
    for refused, instead in (
        (lambda: client.pull("llama3"), "thirdeye pull MODEL"),
        (lambda: list(client.pull("llama3", stream=True)), "thirdeye pull MODEL"),
        (lambda: client.push("llama3"), "its hub"),
        (lambda: client.create("mine", from_="tiny"), "--chat-template"),
        (lambda: client.copy("tiny", "mine"), "--served-model-name"),
        (lambda: client.delete("tiny"), "thirdeye rm MODEL"),
        (lambda: client.generate("tiny", "a", suffix="b"), "fill-in-the-middle"),
    ):
        with pytest.raises(ollama.ResponseError, match=instead) as found:
            refused()
        assert found.value.status_code == 400


def test_errors(client: ollama.Client, served: Served) -> None:
    with pytest.raises(ollama.ResponseError, match="No such model") as missing:
        client.chat("llama3", MESSAGES)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="must be at most 2"):
        list(client.chat("tiny", MESSAGES, options={"temperature": 9}, stream=True))
    served.use(fake_engine(error_after=2, error="No memory."))
    with pytest.raises(ollama.ResponseError, match="No memory"):
        list(client.chat("tiny", MESSAGES, stream=True))
    served.use(fake_engine(says("x"), error_after=0, error="No memory."))
    with pytest.raises(ollama.ResponseError, match="No memory") as failed:
        client.chat("tiny", MESSAGES)
    assert failed.value.status_code == 500
