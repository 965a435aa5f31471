"""`POST /v1/responses`: what comes in, what comes out whole and as events, and what is refused.

Each answer and event is also held against OpenAI's and Open Responses' schemas as it comes in
(`tests/oracles/wire.py`).
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.api.support import EOS, Served, fake_engine, says
from thirdeye.server.api.responses.into_chat import messages_of
from thirdeye.server.api.responses.schema import ResponsesRequest

URL = "/v1/responses"
BODY: dict[str, Any] = {"model": "tiny", "input": "Hi"}
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def whole(served: Served, **changes: Any) -> dict[str, Any]:
    return served.whole(URL, BODY | changes)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of each event; its `event:` line must say its type, and [DONE] must end them."""
    *frames, done = [f for f in answer.text[:-2].split("\n\n") if not f.startswith(":")]
    assert done == "data: [DONE]"
    found = []
    for frame in frames:
        kind, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def streamed(served: Served, **changes: Any) -> list[dict[str, Any]]:
    return events(served.post(URL, BODY | {"stream": True} | changes))


def text_of(response: dict[str, Any]) -> str:
    (message,) = response["output"]
    (part,) = message["content"]
    return str(part["text"])


def test_no_summary_is_null(served: Served) -> None:
    """The published answer has no word for it."""
    assert whole(served, reasoning={"summary": "none"})["reasoning"]["summary"] is None


def prompt_of(served: Served) -> str:
    """The last prompt the engine saw, as text."""
    engine = served.state.engine
    ids = engine.requests[-1].prompt_token_ids
    return "".join("|" if i == 258 else chr(i) for i in ids)


def without_what_differs(response: dict[str, Any]) -> dict[str, Any]:
    """The response less its ids and its clock."""
    found = json.loads(json.dumps(response))
    for name in ("id", "created_at", "completed_at", "timings"):
        del found[name]
    for item in found["output"]:
        del item["id"]
    return dict(found)


def test_a_whole_answer(served: Served) -> None:
    response = whole(served)
    assert response["id"].startswith("resp_")
    assert response["output"][0]["id"].startswith("msg_")
    assert response["timings"]["predicted_n"] == 7
    assert text_of(response) == "Hello!"
    assert (response["status"], response["incomplete_details"]) == ("completed", None)
    assert (response["store"], response["metadata"]) == (False, {})
    assert response["usage"] == {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 26,
    }


def test_the_request_is_said_back(served: Served) -> None:
    asked = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 50,
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }
    response = whole(served, **asked)
    assert {name: response[name] for name in asked} == asked
    assert prompt_of(served) == "|system\nBe brief.|user\nHi|assistant\n"


def test_the_events_in_their_order(served: Served) -> None:
    served.use(fake_engine(says("Hi")))
    found = streamed(served)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert len({event["item_id"] for event in found if "item_id" in event}) == 1
    assert found[0]["response"]["output"] == []
    assert found[0]["response"]["status"] == "in_progress"


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_output_tokens": 3}, {"stop": "lo"}, LOGPROBS, {"instructions": "x"}],
    ids=str,
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_stream_says_what_a_whole_answer_says(
    served: Served, changes: dict[str, Any], step: int
) -> None:
    """Joined deltas, the last event's response, and the answer in one piece are the same."""
    replay = [*"Hellö wörld!".encode(), EOS]
    served.use(fake_engine(replay, tokens_per_step=step))
    response = whole(served, **changes)
    found = streamed(served, **changes)
    assert without_what_differs(found[-1]["response"]) == without_what_differs(response)
    deltas = [event for event in found if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == text_of(response)
    part = response["output"][0]["content"][0]
    assert [entry for event in deltas for entry in event["logprobs"]] == part["logprobs"]


def test_an_empty_answer_is_a_message_without_text(served: Served) -> None:
    served.use(fake_engine([EOS]))
    assert text_of(whole(served)) == ""
    assert streamed(served)[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_out_of_tokens_is_incomplete(served: Served) -> None:
    found = streamed(served, max_output_tokens=2)
    assert found[-1]["type"] == "response.incomplete"
    response = found[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["completed_at"] is None
    assert [item["status"] for item in response["output"]] == ["incomplete"]


def test_logprobs_are_those_of_the_text(served: Served) -> None:
    """The hidden token that ends the answer is no part of the text."""
    part = whole(served, **LOGPROBS)["output"][0]["content"][0]
    assert [entry["token"] for entry in part["logprobs"]] == [*"Hello!"]
    assert [len(entry["top_logprobs"]) for entry in part["logprobs"]] == [2] * 6
    assert whole(served)["output"][0]["content"][0]["logprobs"] == []


def test_an_answer_comes_back_as_history(served: Served) -> None:
    """Output items are input items, with all they hold."""
    first = whole(served, **LOGPROBS)
    turns = [
        {"role": "user", "content": "Hi"},
        *first["output"],
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "More"}]},
    ]
    whole(served, input=turns)
    assert prompt_of(served) == "|user\nHi|assistant\nHello!|user\nMore|assistant\n"


def test_calls_of_a_turn_are_one_message() -> None:
    """A chat template sees one assistant turn with its text and all its calls."""
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    body = ResponsesRequest.model_validate(
        BODY
        | {
            "input": [
                {"role": "assistant", "content": "Let me see."},
                call | {"call_id": "a"},
                call | {"call_id": "b", "id": "fc_1", "status": "completed"},
                {"type": "function_call_output", "call_id": "a", "output": "1"},
                {
                    "type": "function_call_output",
                    "call_id": "b",
                    "output": [{"type": "input_text", "text": "2"}],
                },
                call | {"call_id": "c"},
            ]
        }
    )
    found = messages_of(None, body.input)
    assert [message["role"] for message in found] == ["assistant", "tool", "tool", "assistant"]
    assert found[0]["content"] == "Let me see."
    assert [c["id"] for c in found[0]["tool_calls"]] == ["a", "b"]
    assert found[1] == {"role": "tool", "tool_call_id": "a", "content": "1"}
    assert (found[2]["content"], found[3]["content"]) == ("2", None)


def test_what_a_caller_ran_itself_is_a_call_and_its_result() -> None:
    """Of OpenAI's own tools, in a history of another model."""
    run = {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    patch = {"type": "update_file", "path": "a.py", "diff": "+x"}
    body = ResponsesRequest.model_validate(
        {
            "input": [
                {"type": "shell_call", "call_id": "a", "action": {"commands": ["ls"]}},
                {"type": "shell_call_output", "call_id": "a", "output": [run]},
                {"type": "apply_patch_call", "call_id": "b", "operation": patch},
                {"type": "apply_patch_call_output", "call_id": "b", "status": "failed"},
            ]
        }
    )
    called, shown, changed, failed = messages_of(None, body.input)
    assert called["tool_calls"][0]["function"] == {
        "name": "shell",
        "arguments": '{"commands": ["ls"]}',
    }
    assert json.loads(shown["content"]) == [run]
    assert json.loads(changed["tool_calls"][0]["function"]["arguments"]) == patch
    assert (changed["tool_calls"][0]["function"]["name"], failed["content"]) == (
        "apply_patch",
        "failed",
    )


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
ITEM = {"role": "user", "content": "Hi"}
ROWS: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"foo": 1}, "foo", "unknown_parameter", "Unknown parameter 'foo'."),
    ({"max_tokens": 5}, "max_tokens", "unknown_parameter", "did you mean 'max_output_tokens'?"),
    ({"messages": []}, "messages", "unknown_parameter", "did you mean 'input'?"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "unknown_parameter", "mean 'reasoning'?"),
    ({"response_format": {}}, "response_format", "unknown_parameter", "did you mean 'text'?"),
    ({"input": None}, "input", "missing_required_parameter", "'input'"),
    ({"input": []}, "input", "array_below_min_length", "at least 1"),
    ({"input": 5}, "input", "invalid_type", "must be a string or a list of items, got integer."),
    ({"input": ["x"]}, "input[0]", "invalid_type", "must be an object, got string."),
    ({"input": [ITEM | {"role": "robot"}]}, "input[0].role", "invalid_value", "'assistant'"),
    ({"input": [ITEM | {"foo": 1}]}, "input[0].foo", "unknown_parameter", "input[0].foo"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter", "content"),
    (
        {"input": [ITEM, {"type": "item_reference"}]},
        "input[1].type",
        "unsupported_value",
        "send the item itself",
    ),
    (
        {"input": [ITEM, {"type": "item"}]},
        "input[1].type",
        "unsupported_value",
        "'message'",
    ),
    (
        {"input": [ITEM | {"content": [IMAGE]}]},
        "input[0].content[0]",
        "unsupported_content",
        "text",
    ),
    ({"input": "x" * 600}, "input", "context_length_exceeded", "Shorten 'input'."),
    ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value", "at least 1"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value", "between 0 and 2"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value", "'include'"),
    ({"top_logprobs": 99}, "top_logprobs", "integer_above_max_value", "between 0 and 20"),
    ({"include": ["web_search_call.result"]}, "include[0]", "invalid_value", "logprobs"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": 0}},
        "stream_options.include_obfuscation",
        "invalid_type",
        "a boolean, got integer.",
    ),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value", "'json_schema'"),
    (
        {"text": {"format": {"name": "x"}}},
        "text.format.type",
        "missing_required_parameter",
        "is missing",
    ),
    ({"text": {"verbosity": "x"}}, "text.verbosity", "invalid_value", "'medium'"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_value", "'function'"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value", "needs 'tools'"),
    ({"tool_choice": {"type": "mcp"}}, "tool_choice.type", "unsupported_value", "'function'"),
    ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter", "stores"),
    ({"conversation": "c"}, "conversation", "unsupported_parameter", "stores nothing"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter", "stores nothing"),
    ({"background": True}, "background", "unsupported_value", "send false"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value", "'low'"),
    ({"max_tool_calls": 0}, "max_tool_calls", "integer_below_min_value", "at least 1"),
    ({"service_tier": "x"}, "service_tier", "unsupported_value", "'auto'"),
]


@pytest.mark.parametrize(("changes", "param", "code", "says_so"), ROWS, ids=str)
def test_what_is_refused(
    served: Served, changes: dict[str, Any], param: str, code: str, says_so: str
) -> None:
    """The error table, in this dialect's words: nothing of chat's names leaks."""
    answer = served.post(URL, BODY | changes)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert says_so in error["message"]


def test_what_asks_for_nothing_passes(served: Served) -> None:
    neutral = {
        "store": False,
        "background": False,
        "truncation": "disabled",
        "reasoning": {},
        "previous_response_id": None,
        "tools": [],
        "tool_choice": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "include": [],
        "stop": None,
        "ignore_eos": False,
        "service_tier": "auto",
        "user": "u",
    }
    assert text_of(whole(served, **neutral)) == "Hello!"


def test_a_null_type_is_none(served: Served) -> None:
    """`null` means "not given", also where it would say which kind an item is."""
    item = {"type": None, "role": "user", "content": "Hi"}
    assert text_of(whole(served, input=[item])) == "Hello!"


def test_extensions_reach_the_engine(served: Served) -> None:
    engine = served.use(fake_engine())
    changes = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "ignore_eos": True}
    changes |= {
        "repeat_last_n": 9,
        "max_output_tokens": 3,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.25,
    }
    whole(served, **changes)
    sampling = engine.requests[-1].sampling
    assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (5, 0.1, 1.2)
    assert (sampling.ignore_eos, sampling.max_tokens, sampling.penalty_window) == (True, 3, 9)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, 0.25)


def test_nothing_is_stored(served: Served) -> None:
    """Nothing to fetch, and nothing to compact."""
    assert httpx.get(f"{served.url}{URL}/resp_1", trust_env=False).status_code == 404
    assert served.post(f"{URL}/compact", BODY).status_code == 404


def test_an_error_in_mid_stream_is_the_last_event(served: Served) -> None:
    served.use(fake_engine(error_after=2, error="No memory."))
    last = streamed(served)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "No memory."}


def test_a_failure_after_silence_is_told_in_events(served: Served) -> None:
    """Comments hold the line; the response begins before it fails."""
    engine = served.use(fake_engine(hang_after=0))
    url = served.url + URL
    with httpx.stream("POST", url, json=BODY | {"stream": True}, trust_env=False) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": keepalive"
        engine.die()
        found = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]
    assert [event["sequence_number"] for event in found] == [0, 1, 2]


def test_a_failure_before_the_first_token_has_a_status(served: Served) -> None:
    served.use(fake_engine(error_after=0))
    assert served.post(URL, BODY | {"stream": True}).status_code == 500


def test_a_client_that_leaves_stops_the_work(served: Served) -> None:
    served.leave_a_stream(URL, BODY)


def test_the_openai_client(client: openai.OpenAI, served: Served) -> None:
    """create, stream, and the events' joined text, through the official client."""
    response = client.responses.create(model="tiny", input="Hi", instructions="Be brief.")
    assert response.output_text == "Hello!"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + 7
    with client.responses.stream(model="tiny", input=[{"role": "user", "content": "Hi"}]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello!"
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model="tiny", input="Hi", previous_response_id="resp_1")
    assert bad.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-4", input="Hi")


def test_the_most_calls_on_the_server_are_said_back(served: Served) -> None:
    answer = served.whole("/v1/responses", {"input": "Hi", "max_tool_calls": 3})
    assert answer["max_tool_calls"] == 3
