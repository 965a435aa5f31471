"""The official `openai` client against a live server: what most callers will use, unchanged."""

from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

from tests.api.openai.tools import engine_that_says, state_of
from tests.api.support import CHAT, by_sample, fake_engine, live, ready_state, says
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.text.tools.form import write_call

MESSAGES = CHAT["messages"]


@pytest.fixture(scope="module")
def state() -> ServerState:
    return ready_state(fake_engine())


@pytest.fixture(scope="module")
def client(state: ServerState) -> Iterator[openai.OpenAI]:
    with live(state) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as it:
        yield it


@pytest.fixture(autouse=True)
def engine(state: ServerState) -> None:
    state.engine = fake_engine()


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert answer._request_id


def test_chat_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    found = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in found if c.choices)
    assert text == "Hello!"
    assert found[-1].usage is not None
    assert found[-1].usage.total_tokens == 26


def test_choices(client: openai.OpenAI, state: ServerState) -> None:
    state.engine = fake_engine(by_sample)
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, n=3)
    assert [c.message.content for c in answer.choices] == [
        "answer 0: ", "answer 1: x", "answer 2: xx"
    ]  # fmt: skip


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [t.token for t in logprobs.content] == [*"Hello!", "<|end|>"]
    assert len(logprobs.content[0].top_logprobs) == 2


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="tiny", prompt="Hi", logprobs=1, echo=True)
    assert whole.choices[0].text == "HiHello!"
    stream = client.completions.create(model="tiny", prompt="Hi", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hello!"


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "org/tiny"]
    assert client.models.retrieve("org/tiny").id == "org/tiny"


def test_errors_have_the_right_classes(client: openai.OpenAI, state: ServerState) -> None:
    """The class follows the status; code and param are read from the body."""
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        create(model="tiny", messages=MESSAGES, temperature=9)
    assert (bad.value.param, bad.value.code) == ("temperature", "decimal_above_max_value")
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="gpt-4", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    permit = state.admission.admit(10**6)
    with pytest.raises(openai.RateLimitError):
        create(model="tiny", messages=MESSAGES)
    permit.release()
    state.engine = fake_engine(error_after=1)
    with pytest.raises(openai.InternalServerError):
        create(model="tiny", messages=MESSAGES)


def test_an_error_in_mid_stream_raises(client: openai.OpenAI, state: ServerState) -> None:
    """A stream that just ends would count as a success."""
    state.engine = fake_engine(error_after=2, error="No memory.")
    stream = client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="No memory"):
        list(stream)


def test_a_full_queue_is_retried_when_told() -> None:
    """The client waits for what Retry-After says and comes back."""
    state = state_of(engine_that_says("Hello!"))  # one that has refused nobody yet
    config = ApiConfig(max_queue_time=0)  # the queue is bounded by its length, and soon gone
    permit = state.admission.admit(10**6)  # whatever was measured before
    with live(state, config) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x") as patient:
        from threading import Timer

        Timer(0.3, permit.release).start()
        answer = patient.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello!"


class City(BaseModel):
    name: str
    inhabitants: int


def test_parse_gives_a_pydantic_model(client: openai.OpenAI, state: ServerState) -> None:
    """`parse` sends the model's schema as a strict json_schema and reads the answer with it."""
    state.engine = fake_engine(says('{"name": "Paris", "inhabitants": 2102650}'))
    answer = client.chat.completions.parse(model="tiny", messages=MESSAGES, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Paris", inhabitants=2102650)
    assert state.engine.requests[0].grammar


def test_the_stream_helper_adds_the_chunks_up(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tiny", messages=MESSAGES) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].finish_reason == "stop"


def test_tools_whole_and_streamed() -> None:
    """`parse` reads the arguments with the tool's own model, from an answer and from deltas."""
    state = state_of(engine_that_says(write_call("City", '{"name": "Paris", "inhabitants": 1}')))
    tools = [openai.pydantic_function_tool(City)]
    with live(state) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        answer = client.chat.completions.parse(model="tiny", messages=MESSAGES, tools=tools)
        with client.chat.completions.stream(model="tiny", messages=MESSAGES, tools=tools) as stream:
            streamed = stream.get_final_completion()
    for found in (answer, streamed):
        calls = found.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.parsed_arguments == City(name="Paris", inhabitants=1)
        assert found.choices[0].finish_reason == "tool_calls"
