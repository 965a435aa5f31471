"""Streams over a real server: in-process transports collect whole bodies and prove nothing."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.api.support import (
    CHAT,
    COMPLETION,
    EOS,
    Served,
    by_sample,
    eventually,
    fake_engine,
    says,
)

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
HEAD = (
    '{"id":"ID","object":"chat.completion.chunk","created":0,"model":"tiny",'
    '"system_fingerprint":"te-test"'
)
TEXT_HEAD = HEAD.replace("chat.completion.chunk", "text_completion")


def golden(answer: httpx.Response) -> list[str]:
    """The frames, with what differs from run to run replaced. Framing is checked byte by byte."""
    text = answer.content.decode().replace(": keepalive\n\n", "")  # a busy machine may be silent
    assert "\r" not in text
    assert text.endswith("\n\n")
    frames = text[:-2].split("\n\n")
    data = json.loads(frames[0].removeprefix("data: "))
    text = (
        text[:-2].replace(data["id"], "ID").replace(f'"created":{data["created"]}', '"created":0')
    )
    head, mark, timings = text.rpartition(',"timings":{')
    if mark:
        text = head + timings[timings.index("}") + 1 :]
    return text.split("\n\n")


def chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of each event; the stream must end with one [DONE]."""
    *frames, done = [f for f in answer.text[:-2].split("\n\n") if not f.startswith(":")]
    assert done == "data: [DONE]"
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def chat_choice(delta: str, finish: str = "null") -> str:
    return f',"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]'


def test_a_chat_stream_byte_by_byte(served: Served) -> None:
    """Role first, content, an empty delta with the reason, [DONE]; only \\n as line end."""
    served.use(fake_engine(says("Hi")))
    answer = served.post(CHAT_URL, CHAT | {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"]
    assert answer.headers["server-timing"].startswith("admit;dur=")
    choices = [
        chat_choice('{"role":"assistant","content":"","refusal":null}'),
        chat_choice('{"content":"H"}'),
        chat_choice('{"content":"i"}'),
        chat_choice("{}", '"stop"'),
    ]
    assert golden(answer) == [f"data: {HEAD}{choice}}}" for choice in choices] + ["data: [DONE]"]


def test_the_usage_chunk_byte_by_byte(served: Served) -> None:
    """`usage` is null on each chunk, then comes one chunk without choices."""
    served.use(fake_engine(says("")))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    frames = golden(served.post(CHAT_URL, CHAT | options))
    assert len(frames) == 4
    assert all(frame.endswith(',"usage":null}') for frame in frames[:2])
    details = (
        '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":'
        '{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,'
        '"rejected_prediction_tokens":0}'
    )
    assert frames[2] == (
        f'data: {HEAD},"choices":[],"usage":{{"prompt_tokens":19,"completion_tokens":1,'
        f'"total_tokens":20,{details}}}}}'
    )
    assert frames[3] == "data: [DONE]"


def test_a_completion_stream_byte_by_byte(served: Served) -> None:
    """The finish reason rides on the last text chunk: no extra chunk for a tool to count."""
    answer = served.post(TEXT_URL, COMPLETION | {"stream": True, "max_tokens": 2})
    rest = '"logprobs":null,"finish_reason"'
    assert golden(answer) == [
        f'data: {TEXT_HEAD},"choices":[{{"index":0,"text":"H",{rest}:null}}]}}',
        f'data: {TEXT_HEAD},"choices":[{{"index":0,"text":"e",{rest}:"length"}}]}}',
        "data: [DONE]",
    ]


def test_the_hidden_last_token_is_scored_on_the_finish_chunk(served: Served) -> None:
    """A content chunk's logprobs cover exactly the text it releases."""
    served.use(fake_engine(says("ab"), tokens_per_step=3))
    _, content, finish = chunks(served.post(CHAT_URL, CHAT | {"stream": True, "logprobs": True}))
    scored = [
        [t["token"] for t in c["choices"][0]["logprobs"]["content"]] for c in (content, finish)
    ]
    assert scored == [["a", "b"], ["<|end|>"]]


def test_timings_ride_on_the_last_json_chunk(served: Served) -> None:
    for options in ({}, {"stream_options": {"include_usage": True}}):
        found = chunks(served.post(CHAT_URL, CHAT | {"stream": True} | options))
        assert ["timings" in chunk for chunk in found] == [False] * (len(found) - 1) + [True]


def test_continuous_usage_counts_up(served: Served) -> None:
    options = {"stream_options": {"continuous_usage_stats": True}}
    found = chunks(served.post(CHAT_URL, CHAT | {"stream": True} | options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in found]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 7)


def test_an_error_in_mid_stream_byte_by_byte(served: Served) -> None:
    """An error event, then [DONE]; no finish reason and no usage: clients raise on it."""
    served.use(fake_engine(error_after=1, error="Out of memory."))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    frames = golden(served.post(CHAT_URL, CHAT | options))
    assert frames[2:] == [
        'data: {"error":{"message":"Out of memory.","type":"server_error","param":null,'
        '"code":"internal_error"}}',
        "data: [DONE]",
    ]
    eventually(lambda: served.state.admission.in_flight == 0)


def test_a_bug_in_mid_stream_ends_the_same_way(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Iterator[int]:
        yield 65
        raise RuntimeError("x")

    served.use(fake_engine(broken))
    *_, error = chunks(served.post(CHAT_URL, CHAT | {"stream": True}))
    assert error["error"]["code"] == "internal_error"
    assert "RuntimeError" in caplog.text


def test_no_memory_in_mid_stream_is_no_bug(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Any) -> Iterator[int]:
        yield 65
        raise MemoryError

    served.use(fake_engine(full))
    *_, error = chunks(served.post(CHAT_URL, CHAT | {"stream": True}))
    assert error["error"]["code"] == "out_of_memory"
    assert "no memory left for this request" in error["error"]["message"]
    assert "no memory in this process" in caplog.text


def test_an_engine_that_dies_ends_every_stream(served: Served) -> None:
    engine = served.use(fake_engine(hang_after=1))
    with httpx.stream("POST", served.url + CHAT_URL, json=CHAT | {"stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        engine.die()
        rest = [line for line in lines if line.startswith("data")]
    assert '"engine_failed"' in rest[-2]
    assert rest[-1] == "data: [DONE]"


def test_what_can_be_decided_before_the_stream_has_a_real_status(served: Served) -> None:
    bad = CHAT | {"stream": True, "max_tokens": 0}
    assert served.post(CHAT_URL, bad).status_code == 400
    permit = served.state.admission.admit(10**6)
    assert served.post(CHAT_URL, CHAT | {"stream": True}).status_code == 429
    permit.release()


def test_comments_keep_a_silent_stream_alive(served: Served) -> None:
    """While the engine is silent a comment line comes, which clients skip."""
    gate = threading.Event()
    served.use(fake_engine(gate=gate, replay=says("H")))
    url, body = served.url + CHAT_URL, CHAT | {"stream": True}
    with httpx.stream("POST", url, json=body, trust_env=False, timeout=20) as answer:
        parts = answer.iter_text()
        assert next(parts) == ": keepalive\n\n"
        gate.set()
        text = "".join(parts)
    assert text.endswith("data: [DONE]\n\n")
    assert "\r" not in text


def joined(found: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for chunk in found:
        for choice in chunk["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + key(choice)
    return texts


VARIANTS: list[dict[str, Any]] = [
    {},
    {"n": 4, "max_tokens": 12},
    {"stop": "!", "max_tokens": 40},
    {"max_tokens": 3},
    {"return_token_ids": True, "n": 2},
    {"skip_special_tokens": False},
]
ANSWER = [*"Grüße, 世界 😀! ".encode(), 258, *b"tail", EOS]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
@pytest.mark.parametrize("tokens_per_step", [1, 3])
def test_a_chat_stream_equals_the_whole_answer(
    served: Served, change: dict[str, Any], tokens_per_step: int
) -> None:
    """Text, token ids, logprobs, usage and reasons: there is one path, and this holds it."""
    served.use(fake_engine(ANSWER, tokens_per_step=tokens_per_step))
    body = CHAT | {"logprobs": True, "top_logprobs": 2} | change
    whole = served.post(CHAT_URL, body).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    found = chunks(served.post(CHAT_URL, body | options))
    texts = joined(found, lambda choice: choice["delta"].get("content", ""))
    for choice in whole["choices"]:
        mine = [c for chunk in found for c in chunk["choices"] if c["index"] == choice["index"]]
        assert texts[choice["index"]] == choice["message"]["content"]
        logprobs = [t for c in mine if c["logprobs"] for t in c["logprobs"]["content"]]
        assert logprobs == choice["logprobs"]["content"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
        assert mine[-1].get("stop_reason") == choice.get("stop_reason")
        ids = [i for c in mine for i in c.get("token_ids", [])]
        assert ids == choice.get("token_ids", [])
        assert mine[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert found[-1]["usage"] == whole["usage"]
    assert found[0].get("prompt_token_ids") == whole.get("prompt_token_ids")


@pytest.mark.parametrize(
    "change",
    [*VARIANTS, {"echo": True}, {"echo": True, "max_tokens": 0}, {"prompt": ["ab", "c"], "n": 2}],
    ids=str,
)
def test_a_completion_stream_equals_the_whole_answer(
    served: Served, change: dict[str, Any]
) -> None:
    """Echo streams too, and text_offset counts on over the chunks."""
    served.use(fake_engine(ANSWER, tokens_per_step=2))
    body = COMPLETION | {"logprobs": 2, "max_tokens": 50} | change
    whole = served.post(TEXT_URL, body).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    found = chunks(served.post(TEXT_URL, body | options))
    texts = joined(found, lambda choice: choice["text"])
    for choice in whole["choices"]:
        mine = [c for chunk in found for c in chunk["choices"] if c["index"] == choice["index"]]
        assert texts[choice["index"]] == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [v for c in mine for v in c["logprobs"][name]] == values
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
        assert [i for c in mine for i in c.get("token_ids", [])] == choice.get("token_ids", [])
    assert found[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("when", ["before the first token", "between tokens"])
def test_a_client_that_leaves_stops_every_choice(
    served: Served, n: int, stream: bool, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Streaming or not, one choice or four: all of them are aborted and the permit is back; the
    log says that none was finished."""
    caplog.set_level(logging.INFO, "thirdeye.request")
    hang_after = 0 if when == "before the first token" else 2
    engine = served.use(fake_engine(by_sample, hang_after=hang_after))
    body = json.dumps(CHAT | {"stream": stream, "n": n}).encode()
    request = (
        f"POST {CHAT_URL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode() + body)
        eventually(lambda: engine.stats().num_requests_running == n)
        assert served.state.admission.in_flight == n
    eventually(lambda: served.settled(engine))
    assert len(engine.aborted) == n
    eventually(lambda: bool(caplog.records))
    logged = json.loads(caplog.records[-1].getMessage().removeprefix("request "))
    assert logged["finish"] == ",".join(["unfinished"] * n)


def test_a_choice_that_fails_takes_its_siblings_along(served: Served) -> None:
    """The answer as a whole has failed: nothing may go on computing for it."""

    def second_breaks(request: Any) -> Iterator[int]:
        if request.request_id.endswith("-1"):
            raise RuntimeError("x")
        while True:
            yield 65

    engine = served.use(fake_engine(second_breaks, delay=0.01))
    assert served.post(CHAT_URL, CHAT | {"n": 4}).status_code == 500
    eventually(lambda: served.settled(engine))


def test_many_finished_streams_leave_nothing(served: Served) -> None:
    """Leaks of the SSE library's past: finished responses must be collectable."""
    import gc

    from sse_starlette import EventSourceResponse

    with httpx.Client(trust_env=False) as client:
        for _ in range(50):
            client.post(served.url + CHAT_URL, json=CHAT | {"stream": True, "max_tokens": 1})
    eventually(lambda: served.state.admission.in_flight == 0)
    gc.collect()
    left = [o for o in gc.get_objects() if issubclass(type(o), EventSourceResponse)]
    assert len(left) <= 1


@pytest.mark.parametrize(("path", "good"), [(CHAT_URL, CHAT), (TEXT_URL, COMPLETION)])
def test_progress_comes_before_the_first_token_on_request(
    served: Served, path: str, good: dict[str, Any]
) -> None:
    """Chunks without choices, as llama.cpp sends them; what follows is what comes without them."""
    plain = chunks(served.post(path, good | {"stream": True}))
    first, *rest = chunks(served.post(path, good | {"stream": True, "return_progress": True}))
    assert first["choices"] == []
    progress = first["prompt_progress"]
    total = progress["total"]
    assert progress == {
        "index": 0,
        "total": total,
        "cache": 0,
        "processed": total // 2,
        "time_ms": 0,
    }
    assert [chunk["choices"] for chunk in rest] == [chunk["choices"] for chunk in plain]
    assert all("prompt_progress" not in chunk for chunk in rest)
    whole = served.post(path, good | {"return_progress": True})
    assert whole.json()["choices"], "a whole answer has no progress, and asking for it is no harm"
