"""Anthropic's `POST /v1/messages` and `/count_tokens`: what comes in, what comes out, what is
refused.

Each answer, event and error is also held against Anthropic's schemas as it comes in
(`tests/oracles/wire.py`).
"""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.api.support import EOS, Served, eventually, fake_engine, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.anthropic.routes import messages_of
from thirdeye.server.api.anthropic.schema import MessagesRequest
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.errors import InvalidRequest

URL, COUNT_URL = "/v1/messages", "/v1/messages/count_tokens"
HI = {"role": "user", "content": "Hi"}
BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 50, "messages": [HI]}


@pytest.fixture
def client(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0) as client:
        yield client


def whole(served: Served, **changes: Any) -> dict[str, Any]:
    return served.whole(URL, BODY | changes)


def streamed(served: Served, **changes: Any) -> list[dict[str, Any]]:
    """The data of each event; its `event:` line must say its type. Nothing follows the last."""
    answer = served.post(URL, BODY | {"stream": True} | changes)
    assert answer.status_code == 200, answer.text
    found = []
    for frame in answer.text[:-2].split("\n\n"):
        kind, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return [event for event in found if event["type"] != "ping"]


def prompt_of(engine: FakeEngine) -> str:
    ids = engine.requests[-1].prompt_token_ids
    return "".join("|" if i == 258 else chr(i) for i in ids)


def test_a_whole_message(served: Served) -> None:
    served.use(fake_engine(num_cached_tokens=16))
    message = whole(served)
    assert message["id"].startswith("msg_")
    assert message["content"] == [{"type": "text", "text": "Hello!", "citations": []}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (3, 16)
    assert usage["output_tokens"] == 7
    assert message["timings"]["cache_n"] == 16


def test_the_events_in_their_order(served: Served) -> None:
    served.use(fake_engine(says("Hi")))
    found = streamed(served)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["content"] == []
    assert found[0]["message"]["stop_reason"] is None
    assert found[0]["message"]["usage"]["input_tokens"] == 19
    assert found[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize(
    "changes", [{}, {"max_tokens": 3}, {"stop_sequences": ["lö"]}, {"system": "x"}], ids=str
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_stream_says_what_a_whole_message_says(
    served: Served, changes: dict[str, Any], step: int
) -> None:
    served.use(fake_engine([*"Hellö wörld!".encode(), EOS], tokens_per_step=step))
    message = whole(served, **changes)
    found = streamed(served, **changes)
    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == message["content"][0]["text"]
    ending = found[-2]
    assert ending["delta"] == {
        name: message[name]
        for name in ("stop_reason", "stop_sequence", "stop_details", "container")
    }
    assert ending["usage"] == message["usage"]


@pytest.mark.parametrize(
    ("changes", "reason", "sequence", "text"),
    [
        ({}, "end_turn", None, "Hello!"),
        ({"max_tokens": 2}, "max_tokens", None, "He"),
        ({"stop_sequences": ["zz", "lo"]}, "stop_sequence", "lo", "Hel"),
    ],
)
def test_why_a_message_ends(
    served: Served, changes: dict[str, Any], reason: str, sequence: str | None, text: str
) -> None:
    message = whole(served, **changes)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert message["content"][0]["text"] == text


def test_an_empty_message_has_an_empty_block(served: Served) -> None:
    served.use(fake_engine([EOS]))
    assert whole(served)["content"] == [{"type": "text", "text": "", "citations": []}]
    assert "content_block_delta" not in [event["type"] for event in streamed(served)]


def test_system_and_blocks_make_the_prompt(served: Served) -> None:
    """Blocks are joined without a separator; cache marks are hints."""
    engine = served.use(fake_engine())
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    text = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"} | mark]
    whole(served, system=text, messages=[{"role": "user", "content": text}])
    assert prompt_of(engine) == "|system\nAB|user\nAB|assistant\n"


def test_an_answer_comes_back_as_history(served: Served) -> None:
    engine = served.use(fake_engine())
    first = whole(served)
    answer = {"role": "assistant", "content": first["content"]}
    whole(served, messages=[HI, answer, {"role": "user", "content": "More"}])
    assert prompt_of(engine) == "|user\nHi|assistant\nHello!|user\nMore|assistant\n"


def test_a_last_assistant_turn_is_continued(served: Served) -> None:
    engine = served.use(fake_engine(says("lo")))
    message = whole(served, messages=[HI, {"role": "assistant", "content": "Hel"}])
    assert prompt_of(engine).endswith("|assistant\nHel")
    assert message["content"][0]["text"] == "lo"


def test_an_empty_last_turn_speaks_of_messages(served: Served) -> None:
    """Chat's `continue_final_message` is nothing a caller here has heard of."""
    answer = served.post(URL, BODY | {"messages": [HI, {"role": "assistant", "content": ""}]})
    assert "continue_final_message" not in answer.text


def chat_messages(*turns: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return messages_of(MessagesRequest.model_validate(BODY | {"messages": list(turns)} | changes))


USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "42"}


def test_tool_blocks_become_calls_and_results() -> None:
    """Text, use, results and more text keep their order; what failed says so."""
    found = chat_messages(
        HI,
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, USE]},
        {"role": "user", "content": [RESULT, {"type": "text", "text": "So?"}]},
        {"role": "assistant", "content": [USE | {"id": "t2"}]},
        {"role": "user", "content": [RESULT | {"tool_use_id": "t2", "is_error": True}]},
    )
    assert [message["role"] for message in found] == [
        "user", "assistant", "tool", "user", "assistant", "tool"
    ]  # fmt: skip
    assert found[1]["content"] == "Let me see."
    assert found[1]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert found[2] == {"role": "tool", "tool_call_id": "t1", "content": "42"}
    assert (found[4]["content"], found[5]["content"]) == (None, "Error: 42")


def test_a_system_message_stands_where_it_is_sent() -> None:
    said = {
        "role": "system",
        "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
    }
    found = chat_messages(HI, said, HI)
    assert [message["role"] for message in found] == ["user", "system", "user"]
    assert found[1]["content"] == "Be brief."


PLAIN = {"type": "text", "media_type": "text/plain", "data": "All of it."}
PARTS = {
    "type": "content",
    "content": [{"type": "text", "text": "All "}, {"type": "text", "text": "of it."}],
}
DOCUMENT = {"type": "document", "source": PLAIN, "title": "A", "context": "B"}
FOUND = {
    "type": "search_result",
    "source": "https://a.b",
    "title": "A",
    "content": [{"type": "text", "text": "Found."}],
}
WRITTEN = """<document>
<title>A</title>
<context>B</context>
<content>
All of it.
</content>
</document>
"""
LISTED = """<search_result>
<title>A</title>
<source>https://a.b</source>
<content>
Found.
</content>
</search_result>
"""


@pytest.mark.parametrize(
    ("block", "written"),
    [
        (DOCUMENT, WRITTEN),
        (DOCUMENT | {"source": PARTS}, WRITTEN),
        (DOCUMENT | {"source": {"type": "content", "content": "All of it."}}, WRITTEN),
        (DOCUMENT | {"citations": {"enabled": False}, "cache_control": None}, WRITTEN),
        (
            {"type": "document", "source": PLAIN, "title": None, "context": ""},
            "<document>\n<content>\nAll of it.\n</content>\n</document>\n",
        ),
        (FOUND, LISTED),
        (FOUND | {"citations": None}, LISTED),
    ],
    ids=str,
)
def test_documents_and_search_results_are_text(block: dict[str, Any], written: str) -> None:
    """In a turn, and in what a tool found."""
    asked = {"type": "text", "text": "Why?"}
    (turn,) = chat_messages({"role": "user", "content": [block, asked]})
    assert turn["content"] == f"{written}Why?"
    found = chat_messages(
        HI,
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [RESULT | {"content": [asked, block]}]},
    )
    assert found[-1]["content"] == f"Why?{written}"


def test_a_tools_use_is_not_continued() -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_messages(HI, {"role": "assistant", "content": [USE]})
    assert refused.value.param == "messages"


def test_a_tool_of_no_type_is_custom(served: Served) -> None:
    tool = {"type": None, "name": "f", "input_schema": {"type": "object"}}
    counted = served.post(COUNT_URL, {"model": "tiny", "messages": [HI], "tools": [tool]})
    assert counted.status_code == 200, counted.text


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A"}}
ROWS: list[tuple[dict[str, Any], str]] = [
    ({"foo": 1}, "Unknown parameter 'foo'."),
    ({"messages": None}, "Missing required parameter 'messages'."),
    ({"max_tokens": None}, "Missing required parameter 'max_tokens'."),
    ({"max_tokens": 0}, "'max_tokens' must be at least 1, got 0."),
    ({"messages": []}, "'messages' must hold at least 1 item, got 0."),
    (
        {"messages": [HI | {"role": "tool"}]},
        "'messages[0].role' must be one of 'user', 'assistant', 'system'.",
    ),
    ({"messages": [{"content": "Hi"}]}, "'messages[0].role' is missing."),
    ({"messages": [HI | {"content": [USE]}]}, "'messages[0].content[0]' must be one of 'text', "),
    (
        {"messages": [HI, {"role": "assistant", "content": [RESULT]}]},
        "'messages[1].content[0]' must be one of 'text', 'tool_use', 'thinking'",
    ),
    (
        {"messages": [HI | {"content": [DOCUMENT | {"citations": {"enabled": True}}]}]},
        "'messages[0].content[0].citations.enabled' is not supported here: answers cite nothing",
    ),
    (
        {"messages": [HI | {"content": [FOUND | {"citations": {"enabled": True}}]}]},
        "'messages[0].content[0].citations.enabled' is not supported here",
    ),
    (
        {"messages": [HI | {"content": [DOCUMENT | {"source": {"type": "base64", "data": "A"}}]}]},
        "'messages[0].content[0].source.type' must be one of 'text', 'content'",
    ),
    (
        {"messages": [HI | {"content": [DOCUMENT | {"source": PARTS | {"content": [IMAGE]}}]}]},
        "'messages[0].content[0].source.content[0]' must be 'text'",
    ),
    ({"messages": [HI | {"content": 5}]}, "'messages[0].content' must be a string or a list"),
    (
        {"messages": [HI | {"content": [IMAGE]}]},
        "'messages[0].content[0]' is an image: text is all",
    ),
    ({"messages": [HI | {"content": [{"type": "text"}]}]}, "'messages[0].content[0].text'"),
    ({"messages": [HI | {"content": [{"text": "x"}]}]}, "'messages[0].content[0].type' is missing"),
    ({"messages": [HI | {"content": "x" * 600}]}, "maximum context length is 512 tokens"),
    ({"system": [IMAGE]}, "'system[0]' must be 'text'."),
    ({"temperature": 1.5}, "'temperature' must be between 0 and 1, got 1.5."),
    ({"top_p": 2}, "'top_p' must be between"),
    ({"top_k": -2}, "'top_k' must be at least -1"),
    ({"stop_sequences": ["a"] * 17}, "'stop_sequences' must hold at most 16 items, got 17."),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "'thinking.budget_tokens' must be"),
    ({"container": "c"}, "'container' is not supported here"),
    ({"thread": {"type": "create"}}, "'thread' is not supported here: this server stores nothing"),
    (
        {"output_format": {"type": "json_schema"}},
        "'output_format' is not supported here: use 'output_config.format'",
    ),
    ({"compaction": {"type": "x"}}, "'compaction' is not supported here"),
    ({"mcp_servers": [{}]}, "'mcp_servers' is not supported here"),
    ({"service_tier": "slow"}, "'service_tier' must be 'auto', 'default', 'standard_only', 'flex'"),
    ({"metadata": {"user": 1}}, "Unknown parameter 'metadata.user', did you mean 'user_id'?"),
    (
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "'tools[0].type' must be 'custom': this server has no 'web_search_20250305'; "
        "send tools that you run.",
    ),
    (
        {"tools": [{"name": "f", "input_schema": {}, "defer_loading": 0}]},
        "'tools[0].defer_loading' must be a boolean, got integer.",
    ),
    ({"tool_choice": {"type": "any"}}, "'tool_choice' needs 'tools'."),
    ({"tool_choice": {"type": "some"}}, "'tool_choice.type' must be one of 'auto', 'any'"),
]


@pytest.mark.parametrize(("changes", "says_so"), ROWS, ids=str)
def test_what_is_refused(served: Served, changes: dict[str, Any], says_so: str) -> None:
    """In Anthropic's envelope, whose message alone names the field."""
    answer = served.post(URL, BODY | changes)
    assert answer.status_code == 400, answer.text
    error = answer.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert says_so in error["error"]["message"]
    assert error["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_a_prompt_that_does_not_fit_is_told_with_its_numbers(served: Served) -> None:
    """By the names that they have in the other dialects."""
    long = BODY | {"messages": [HI | {"content": "x" * 600}]}
    error = httpx.post(f"{served.url}/v1/messages", json=long).json()["error"]
    assert error["n_prompt_tokens"] > 600
    assert error["n_ctx"] == 512
    other = httpx.post(f"{served.url}/v1/messages", json=BODY | {"top_p": 2}).json()["error"]
    assert other.keys() == {"type", "message"}


def test_what_asks_for_nothing_passes(served: Served) -> None:
    neutral = {
        "thinking": {"type": "disabled"},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "tools": [],
        "tool_choice": {"type": "auto"},
        "stop_sequences": [],
        "cache_control": {"type": "ephemeral"},
        "output_config": {"format": None},
        "container": None,
    }
    hints = {"eager_input_streaming": True, "defer_loading": False, "allowed_callers": ["direct"]}
    tool = {"name": "f", "input_schema": {"type": "object"}}
    assert whole(served, **neutral)["content"][0]["text"] == "Hello!"
    told = {"tools": [tool | hints], "tool_choice": {"type": "none"}}
    assert whole(served, **told)["content"][0]["text"] == "Hello!"


def test_sampling_reaches_the_engine(served: Served) -> None:
    engine = served.use(fake_engine())
    whole(served, temperature=0.5, top_p=0.9, top_k=7)
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert sampling.max_tokens == 50


def test_counted_tokens_are_those_of_the_prompt(served: Served) -> None:
    body = {"model": "tiny", "messages": [HI], "system": "Be brief."}
    counted = served.post(COUNT_URL, body).json()
    message = whole(served, system="Be brief.")
    assert counted == {"input_tokens": message["usage"]["input_tokens"]}


def test_what_does_not_fit_can_be_counted(served: Served) -> None:
    body = {"model": "tiny", "messages": [HI | {"content": "x" * 5000}]}
    assert served.post(COUNT_URL, body).json()["input_tokens"] > 5000


def test_counting_takes_no_max_tokens(served: Served) -> None:
    answer = served.post(COUNT_URL, BODY)
    assert answer.status_code == 400
    assert "'max_tokens'" in answer.json()["error"]["message"]


def test_errors_on_the_way_have_the_envelope_too() -> None:
    """Wrong key, method, path and body, a full queue, a draining server, a failed engine."""
    state = ready_state(fake_engine())
    with live(state, ApiConfig(api_keys=("secret",))) as url:

        def ask(method: str = "POST", path: str = URL, **options: Any) -> tuple[int, str]:
            headers = {"x-api-key": "secret", "anthropic-version": "2023-06-01"}
            options = {"json": BODY, "headers": headers} | options
            answer = httpx.request(method, url + path, trust_env=False, **options)
            error = answer.json()
            assert error["request_id"] == answer.headers["request-id"]
            return answer.status_code, error["error"]["type"]

        assert ask(headers={}) == (401, "authentication_error")
        assert ask(headers={"x-api-key": "wrong"}) == (401, "authentication_error")
        assert ask(path="/v1/messages/batches") == (404, "not_found_error")
        assert ask(json=BODY | {"model": "claude"}) == (404, "not_found_error")
        assert ask(method="DELETE") == (405, "invalid_request_error")
        assert ask(json=[]) == (400, "invalid_request_error")
        assert ask(json=BODY | {"system": "x" * 5_000_000}) == (413, "invalid_request_error")
        state.engine = fake_engine(error_after=0)
        assert ask() == (500, "api_error")
        permit = state.admission.admit(10**6)
        assert ask() == (429, "rate_limit_error")
        permit.release()
        state.drain()
        assert ask() == (503, "overloaded_error")


@pytest.mark.parametrize(
    "headers",
    [{"x-api-key": "secret"}, {"authorization": "Bearer secret"}],
    ids=["x-api-key", "Bearer"],
)
def test_either_header_carries_the_key(headers: dict[str, str]) -> None:
    with live(ready_state(fake_engine()), ApiConfig(api_keys=("secret",))) as url:
        answer = httpx.post(url + URL, json=BODY, headers=headers, trust_env=False)
    assert answer.status_code == 200


def test_an_error_in_mid_stream_is_an_event(served: Served) -> None:
    served.use(fake_engine(error_after=2, error="No memory."))
    last = streamed(served)[-1]
    assert last["error"] == {"type": "api_error", "message": "No memory."}


def test_a_silent_stream_is_pinged(served: Served) -> None:
    engine = served.use(fake_engine(hang_after=0))
    url = served.url + URL
    with httpx.stream("POST", url, json=BODY | {"stream": True}, trust_env=False) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(6)] == ["event: ping", 'data: {"type":"ping"}', ""] * 2
    eventually(lambda: len(engine.aborted) == 1 and served.settled(engine))


def test_a_client_that_leaves_stops_the_work(served: Served) -> None:
    served.leave_a_stream(URL, BODY)


def test_the_anthropic_client(client: anthropic.Anthropic) -> None:
    """create, stream, count_tokens through the official client."""
    message = client.messages.create(model="tiny", max_tokens=50, messages=[HI])
    assert message.content[0].text == "Hello!"
    assert message._request_id
    with client.messages.stream(model="tiny", max_tokens=50, messages=[HI]) as stream:
        assert "".join(stream.text_stream) == "Hello!"
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 7)
    counted = client.messages.count_tokens(model="tiny", messages=[HI])
    assert counted.input_tokens == message.usage.input_tokens


def test_the_anthropic_clients_errors(client: anthropic.Anthropic, served: Served) -> None:
    """The class follows the status, the type and the id are read from the body and header."""
    with pytest.raises(anthropic.BadRequestError, match="max_tokens") as bad:
        client.messages.create(model="tiny", max_tokens=0, messages=[HI])
    assert bad.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude", max_tokens=5, messages=[HI])
    permit = served.state.admission.admit(10**6)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model="tiny", max_tokens=5, messages=[HI])
    permit.release()
    served.use(fake_engine(error_after=2, error="No memory."))
    with (
        pytest.raises(anthropic.APIStatusError, match="No memory"),
        client.messages.stream(model="tiny", max_tokens=50, messages=[HI]) as stream,
    ):
        list(stream)
