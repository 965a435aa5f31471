"""Both clients against scripted sockets: what they send, what they read, what they raise."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.stub import DONE, Stub, chat_events, error, event
from thirdeye.clients import AsyncClient, errors
from thirdeye.clients.types import Usage


def texts(stream: Any) -> list[str]:
    return [chunk.text for chunk in stream if chunk.text]


def test_chat_sends_the_parameters_and_reads_everything(client: Any, stub: Stub) -> None:
    """The request holds what was given and nothing else; unknown keys of the answer stay in raw."""
    answer = client.chat("Hi", model="tiny", temperature=0, seed=None, top_k=4)
    request = stub.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.json == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0,
        "top_k": 4,
    }
    assert (answer.text, answer.finish_reason) == ("Hello there!", "stop")
    assert answer.usage == Usage(5, 3, 8, 2)
    assert answer.timings["ttft_ms"] == 12.0
    assert (answer.id, answer.model, answer.raw["house_special"]) == ("chatcmpl-1", "tiny", 7)
    assert answer.message == {"role": "assistant", "content": "Hello there!"}


def test_messages_pass_as_they_are(client: Any, stub: Stub) -> None:
    messages = [{"role": "system", "content": "é"}, {"role": "user", "content": "x", "name": "n"}]
    client.chat(messages, model="tiny")
    assert stub.requests[0].json["messages"] == messages


def test_complete_and_the_token_routes(client: Any, stub: Stub) -> None:
    """Routes outside /v1 hang off the server's root."""
    assert client.complete([1, 2], model="tiny", max_tokens=3).text == " once"
    assert client.tokenize("hi").tokens == [5, 7]
    assert client.tokenize([{"role": "user", "content": "hi"}]).count == 2
    assert client.detokenize([5, 7]) == "hi"
    assert client.health().ok
    assert [request.path for request in stub.requests] == [
        "/v1/completions",
        "/tokenize",
        "/tokenize",
        "/detokenize",
        "/health",
    ]
    assert stub.requests[0].json == {"model": "tiny", "prompt": [1, 2], "max_tokens": 3}
    assert list(stub.requests[2].json) == ["messages"]


def test_models(client: Any) -> None:
    models = client.models()
    assert [(model.id, model.max_model_len) for model in models] == [("tiny", 2048), ("big", None)]


def test_without_a_model_the_first_one_is_asked_once(client: Any, stub: Stub) -> None:
    client.chat("a")
    texts(client.stream_chat("b"))
    assert [request.path for request in stub.requests] == [
        "/v1/models",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]
    assert stub.requests[2].json["model"] == "tiny"


def test_the_clients_own_model_needs_no_question(connect: Callable[..., Any], stub: Stub) -> None:
    connect(model="mine").complete("a")
    assert stub.requests[0].json["model"] == "mine"


def test_a_server_without_models_is_an_error(client: Any, stub: Stub) -> None:
    stub.reply({"object": "list", "data": []})
    with pytest.raises(errors.NotFound, match="name one with 'model'"):
        client.chat("a")


def test_the_key_is_a_bearer_and_never_shown(connect: Callable[..., Any], stub: Stub) -> None:
    client = connect(api_key="sk-secret")
    client.models()
    assert stub.requests[0].headers["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(client.client.target)


def test_without_a_key_there_is_no_header(client: Any, stub: Stub) -> None:
    client.models()
    assert "authorization" not in stub.requests[0].headers


def test_a_proxy_from_the_environment_does_not_catch_loopback(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert connect().health().ok


def test_a_sick_server_is_an_answer(client: Any, stub: Stub) -> None:
    """`health` neither raises nor retries on 503: that is the very thing it asks for."""
    stub.reply({"status": "error", "reason": "engine stopped"}, 503)
    health = client.health()
    assert (health.ok, health.status, health.raw["reason"]) == (False, 503, "engine stopped")


def test_health_without_a_body(client: Any, stub: Stub) -> None:
    stub.reply(b"")
    assert client.health().ok


def test_inspect(client: Any, stub: Stub) -> None:
    """Tokens, layers and guesses; every other field goes to the endpoint as it is."""
    inside = client.inspect("Hello", layers=[0])
    assert stub.requests[0].path == "/v1/inspect"
    assert stub.requests[0].json == {"prompt": "Hello", "layers": [0]}
    assert inside.tokens == ["Hel", "lo"]
    assert inside.layers[0]["pattern"][0][1] == [0.25, 0.75]
    assert inside.next_token == [[{"id": 9, "token": "!", "logprob": -0.5}]]
    with pytest.raises(TypeError, match="'stream' is not a parameter here"):
        client.inspect("Hello", stream=True)
    client.inspect([5, 7])
    assert stub.requests[-1].json == {"prompt": [5, 7]}
    client.inspect([{"role": "user", "content": "Hi"}])
    assert stub.requests[-1].json == {"messages": [{"role": "user", "content": "Hi"}]}


# --- streams


def test_stream_chat(client: Any, stub: Stub) -> None:
    """Chunks as they come, then the whole answer with usage and timings."""
    stream = client.stream_chat("Hi", model="tiny", max_tokens=9)
    assert texts(stream) == ["Hello", " there", "!"]
    answer = stream.answer()
    assert (answer.text, answer.finish_reason) == ("Hello there!", "stop")
    assert answer.usage == Usage(5, 3, 8, 2)
    assert answer.timings["predicted_n"] == 3
    assert stub.requests[0].json["stream"] is True
    assert stub.requests[0].json["stream_options"] == {"include_usage": True}


def test_stream_completion(client: Any, stub: Stub) -> None:
    stream = client.stream("Upon", model="tiny", stream_options={})
    assert texts(stream) == [" on", "ce"]
    assert stream.answer().finish_reason == "length"
    assert "stream_options" not in stub.requests[0].json


def test_a_stream_arrives_as_it_is_made(client: Any, stub: Stub) -> None:
    """The first chunk is there while the server still works on the second: nothing is buffered."""
    gate = threading.Event()
    first, *rest = chat_events("one", "two")[1:]
    stub.stream(first, gate, *rest)
    stream = client.stream_chat("Hi", model="tiny")
    assert next(stream).text == "one"
    assert not gate.is_set()
    gate.set()
    assert texts(stream) == ["two"]


def test_closing_a_stream_hangs_up(client: Any, stub: Stub) -> None:
    stub.stream(*chat_events("one")[:2], threading.Event())
    stream = client.stream_chat("Hi", model="tiny")
    next(stream)
    assert next(stream).text == "one"
    stream.close()
    assert stub.requests[0].client_left.wait(5)
    assert list(stream) == []


def test_leaving_a_stream_half_read_hangs_up(sync_client: Any, stub: Stub) -> None:
    """`break` in a for loop drops the stream, and with it the connection."""
    stub.stream(*chat_events("one")[:2], threading.Event())
    for _ in sync_client.stream_chat("Hi", model="tiny"):
        break
    assert stub.requests[0].client_left.wait(5)


def test_a_stream_that_is_never_read_sends_nothing(client: Any, stub: Stub) -> None:
    client.stream_chat("Hi", model="tiny").close()
    assert stub.requests == []


def test_nothing_is_read_past_done(client: Any, stub: Stub) -> None:
    """After [DONE] the stream is over, even if the server keeps the connection open."""
    stub.stream(*chat_events("one"), event({"choices": [{"delta": {"content": "late"}}]}), 30.0)
    assert texts(client.stream_chat("Hi", model="tiny")) == ["one"]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_without_done_is_broken(client: Any, stub: Stub, chunked: bool) -> None:
    """A clean end is no proof of a whole answer: only [DONE] is."""
    stub.stream(*chat_events("one", "two")[:-1], chunked=chunked)
    stream = client.stream_chat("Hi", model="tiny")
    with pytest.raises(errors.StreamBroken, match=r"without \[DONE\]"):
        texts(stream)
    assert stream.answer().text == "onetwo"


def test_a_connection_cut_in_mid_stream_is_broken(client: Any, stub: Stub) -> None:
    stub.stream(*chat_events("one")[:2], whole=False)
    stream = client.stream_chat("Hi", model="tiny")
    with pytest.raises(errors.StreamBroken, match=r"before \[DONE\]"):
        texts(stream)
    assert len(stub.requests) == 1, "a stream that has begun is never asked for again"


def test_done_without_its_empty_line_counts(client: Any, stub: Stub) -> None:
    stub.stream(*chat_events("one")[:-1], b"data: [DONE]")
    assert texts(client.stream_chat("Hi", model="tiny")) == ["one"]


def test_an_error_event_raises(client: Any, stub: Stub) -> None:
    """The chunks before it in the same packet still come out."""
    broken = {"error": {"message": "engine died", "type": "server_error", "code": "engine_failed"}}
    stub.stream(b"".join([*chat_events("one")[:2], event(broken), DONE]))
    stream = client.stream_chat("Hi", model="tiny")
    with pytest.raises(errors.ServerError, match="engine died") as caught:
        texts(stream)
    assert (caught.value.status, caught.value.code) == (None, "engine_failed")
    assert stream.answer().text == "one"
    assert len(stub.requests) == 1


def test_an_event_that_is_not_json_is_broken(client: Any, stub: Stub) -> None:
    stub.stream(event("{oops"), DONE)
    with pytest.raises(errors.StreamBroken, match="not JSON"):
        texts(client.stream_chat("Hi", model="tiny"))


def test_a_refused_stream_raises_at_its_first_step(client: Any, stub: Stub) -> None:
    stub.reply(error("Too long.", "context_length_exceeded", "messages"), 400)
    stream = client.stream_chat("Hi", model="tiny")
    with pytest.raises(errors.ContextLengthExceeded):
        next(stream)


def test_a_stream_cut_anywhere_reads_the_same(client: Any, stub: Stub) -> None:
    """One byte per chunk: split characters, split line ends, split JSON."""
    data = b"".join([b": ping\n\n", *chat_events("né", "🙂\n", '"\\')])
    stub.stream(*(bytes([byte]) for byte in data))
    assert texts(client.stream_chat("Hi", model="tiny")) == ["né", "🙂\n", '"\\']


def test_several_choices_keep_their_index(client: Any, stub: Stub) -> None:
    """`answer()` is choice 0, each chunk says whose it is."""
    choices = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    stub.stream(event({"choices": choices}), DONE)
    stream = client.stream_chat("Hi", model="tiny", n=2)
    assert [(chunk.index, chunk.text) for chunk in stream] == [(1, "b"), (0, "a")]
    assert stream.answer().text == "a"


def test_half_a_surrogate_pair_is_no_character(client: Any, stub: Stub) -> None:
    """JSON can spell it and UTF-8 cannot: it would make the caller's next print or request fail."""
    stub.stream(event('{"choices":[{"delta":{"content":"a\\ud83db\\ud83d\\ude42"}}]}'), DONE)
    assert texts(client.stream_chat("Hi", model="tiny")) == ["a\ufffdb🙂"]


def test_a_cancelled_task_hangs_up(stub: Stub) -> None:
    stub.stream(*chat_events("one")[:2], threading.Event())

    async def read(seen: asyncio.Event) -> None:
        async with AsyncClient(stub.url, model="tiny") as client:
            async for chunk in client.stream_chat("Hi"):
                if chunk.text:
                    seen.set()

    async def main() -> None:
        seen = asyncio.Event()
        task = asyncio.create_task(read(seen))
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert stub.requests[0].client_left.wait(5)
