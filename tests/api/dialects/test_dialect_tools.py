"""Tools in the Responses and Messages dialects: what reaches chat, calls whole and as events, and
refusals in the dialect's words. The engine is a fake: it says what it was told to."""

import json
from itertools import groupby
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.api.openai.tools import ONE, PARAMETERS, PARIS, TWO, engine_that_says, state_of
from tests.api.support import Served, live
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.text.tools.form import write_call

QUESTION = "What is the weather in Paris?"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
FLAT = [
    {"type": "function", "name": "get_weather", "description": "W", "parameters": PARAMETERS},
    {"type": "function", "name": "now"},
]
ANTHROPIC = [
    {"name": "get_weather", "description": "W", "input_schema": PARAMETERS},
    {"name": "now", "input_schema": {"type": "object"}},
]
ASKED: dict[str, Any] = {"model": "tiny", "input": QUESTION, "tools": FLAT}
USER = {"role": "user", "content": QUESTION}
MESSAGE: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 500,
    "messages": [USER],
    "tools": ANTHROPIC,
}
MIXED = f"Let me look. {TWO}"


@pytest.fixture
def served(tool_server: Served) -> Served:
    tool_server.use(engine_that_says(TWO))
    return tool_server


def whole(served: Served, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = served.post(path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def events(served: Served, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = served.post(path, body | {"stream": True})
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n")]
    return [json.loads(line) for line in lines if line.startswith("{")]


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in item.items() if k not in ("id", "call_id")} for item in items]


def engine_of(served: Served) -> FakeEngine:
    assert isinstance(served.state.engine, FakeEngine)
    return served.state.engine


# --- Responses -----------------------------------------------------------------------------------


def test_calls_are_output_items(served: Served) -> None:
    response = whole(served, RESPONSES, ASKED)
    assert response["status"] == "completed"
    assert without_ids(response["output"]) == [
        {"type": "function_call", "name": name, "arguments": arguments, "status": "completed"}
        for name, arguments in (("get_weather", PARIS), ("now", "{}"))
    ]
    ids = [(item["id"], item["call_id"]) for item in response["output"]]
    assert len(set(ids)) == 2
    assert all(i.startswith("fc_") and c.startswith("call_") for i, c in ids)


def test_the_events_of_text_and_calls(served: Served) -> None:
    served.use(engine_that_says(MIXED, tokens_per_step=200))
    found = events(served, RESPONSES, ASKED)
    kinds = [event["type"].removeprefix("response.") for event in found]
    call = ["function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert [kind for kind, _ in groupby(kinds)] == [
        "created",
        "in_progress",
        *["output_item.added", "content_part.added", "output_text.delta"],
        *["output_text.done", "content_part.done", "output_item.done"],
        *["output_item.added", *call],
        *["output_item.added", *call],
        "completed",
    ]
    indexes = [event["output_index"] for event in found if "output_index" in event]
    assert indexes == sorted(indexes)
    assert set(indexes) == {0, 1, 2}


@pytest.mark.parametrize("text", [ONE, TWO, MIXED, "No call.", f"{ONE} no more"])
@pytest.mark.parametrize("step", [1, 7, 500])
def test_a_responses_stream_says_what_a_whole_answer_says(
    served: Served, text: str, step: int
) -> None:
    served.use(engine_that_says(text, tokens_per_step=step))
    response = whole(served, RESPONSES, ASKED)
    found = events(served, RESPONSES, ASKED)
    assert without_ids(found[-1]["response"]["output"]) == without_ids(response["output"])
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert done == found[-1]["response"]["output"]
    for item in done:
        deltas = [e["delta"] for e in found if e.get("item_id") == item["id"] and "delta" in e]
        joined = item["arguments"] if "arguments" in item else item["content"][0]["text"]
        assert "".join(deltas) == joined


def test_logprobs_beside_a_call_are_those_of_the_text(served: Served) -> None:
    served.use(engine_that_says(MIXED, tokens_per_step=200))
    body = ASKED | {"include": ["message.output_text.logprobs"]}
    part = whole(served, RESPONSES, body)["output"][0]["content"][0]
    assert "".join(entry["token"] for entry in part["logprobs"]) == part["text"]


def test_a_call_that_is_cut_is_incomplete(served: Served) -> None:
    cut = len(ONE) - 25
    response = whole(served, RESPONSES, ASKED | {"max_output_tokens": cut})
    assert response["status"] == "incomplete"
    (call,) = response["output"]
    assert (call["name"], call["status"]) == ("get_weather", "incomplete")
    assert PARIS.startswith(call["arguments"])


@pytest.mark.parametrize(
    "choice", ["none", "auto", "required", {"type": "function", "name": "now"}], ids=str
)
def test_the_choice_is_chats(served: Served, choice: object) -> None:
    """The engine is given the grammar and the prompt that chat would give it."""
    whole(served, RESPONSES, ASKED | {"tool_choice": choice, "parallel_tool_calls": False})
    named = {"type": "function", "function": {"name": "now"}}
    chat = {
        "model": "tiny",
        "messages": [USER],
        "tools": [
            {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
            for tool in FLAT
        ],
        "tool_choice": choice if isinstance(choice, str) else named,
        "parallel_tool_calls": False,
    }
    whole(served, "/v1/chat/completions", chat)
    first, second = engine_of(served).requests[-2:]
    assert first.prompt_token_ids == second.prompt_token_ids
    assert first.grammar == second.grammar
    assert bool(first.grammar) == (choice != "none")


def test_calls_go_back_with_their_results(served: Served) -> None:
    """The items of an answer, and what the tools said, make the next prompt."""
    items = whole(served, RESPONSES, ASKED)["output"]
    outputs = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"}
        for item in items
    ]
    body = ASKED | {"input": [USER, *items, *outputs]}
    whole(served, RESPONSES, body)
    prompt = bytes(i for i in engine_of(served).requests[-1].prompt_token_ids if i < 256).decode()
    assert write_call("get_weather", PARIS) in prompt
    assert prompt.count("sunny") == 2


# --- Messages ------------------------------------------------------------------------------------


def test_calls_are_blocks(served: Served) -> None:
    served.use(engine_that_says(MIXED))
    message = whole(served, MESSAGES, MESSAGE)
    text, *uses = message["content"]
    assert text["text"] == "Let me look. "
    assert [(use["name"], use["input"]) for use in uses] == [
        ("get_weather", {"city": "Paris"}),
        ("now", {}),
    ]
    assert len({use["id"] for use in uses}) == 2
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("text", [ONE, TWO, MIXED, "No call.", f"{ONE} no more"])
@pytest.mark.parametrize("step", [1, 7, 500])
def test_a_messages_stream_says_what_a_whole_message_says(
    served: Served, text: str, step: int
) -> None:
    """Put together as Anthropic's clients do it."""
    served.use(engine_that_says(text, tokens_per_step=step))
    message = whole(served, MESSAGES, MESSAGE)
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    for event in events(served, MESSAGES, MESSAGE):
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            pieces = []
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            pieces.append(delta["text"] if delta["type"] == "text_delta" else delta["partial_json"])
        elif event["type"] == "content_block_stop":
            if blocks[-1]["type"] == "text":
                blocks[-1]["text"] = "".join(pieces)
            else:
                blocks[-1]["input"] = json.loads("".join(pieces))
        elif event["type"] == "message_delta":
            assert event["delta"]["stop_reason"] == message["stop_reason"]
    assert without_ids(blocks) == without_ids(message["content"])


def test_a_use_that_is_cut_has_an_empty_input(served: Served) -> None:
    message = whole(served, MESSAGES, MESSAGE | {"max_tokens": len(ONE) - 25})
    assert message["stop_reason"] == "max_tokens"
    assert (message["content"][0]["name"], message["content"][0]["input"]) == ("get_weather", {})


@pytest.mark.parametrize(
    ("choice", "chats"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "now"}, {"type": "function", "function": {"name": "now"}}),
    ],
    ids=str,
)
def test_the_choice_of_messages_is_chats(served: Served, choice: object, chats: object) -> None:
    whole(served, MESSAGES, MESSAGE | {"tool_choice": choice})
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "parameters": tool["input_schema"],
                **({"description": "W"} if "description" in tool else {}),
            },
        }
        for tool in ANTHROPIC
    ]
    chat = {"model": "tiny", "messages": [USER], "tools": tools, "tool_choice": chats}
    whole(served, "/v1/chat/completions", chat)
    first, second = engine_of(served).requests[-2:]
    assert first.prompt_token_ids == second.prompt_token_ids
    assert first.grammar == second.grammar


def test_one_call_at_most(served: Served) -> None:
    one = MESSAGE | {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    whole(served, MESSAGES, one)
    whole(served, MESSAGES, MESSAGE | {"tool_choice": {"type": "any"}})
    first, second = engine_of(served).requests[-2:]
    assert first.grammar != second.grammar


def test_tools_are_counted(served: Served) -> None:
    body = {key: value for key, value in MESSAGE.items() if key != "max_tokens"}
    counted = served.post(f"{MESSAGES}/count_tokens", body).json()["input_tokens"]
    assert counted == whole(served, MESSAGES, MESSAGE)["usage"]["input_tokens"]
    plain = {"model": "tiny", "messages": [USER]}
    assert counted > served.post(f"{MESSAGES}/count_tokens", plain).json()["input_tokens"]


def test_uses_go_back_with_their_results(served: Served) -> None:
    content = whole(served, MESSAGES, MESSAGE)["content"]
    results = [
        {"type": "tool_result", "tool_use_id": use["id"], "content": "sunny"} for use in content
    ]
    turns = [USER, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    whole(served, MESSAGES, MESSAGE | {"messages": turns})
    prompt = bytes(i for i in engine_of(served).requests[-1].prompt_token_ids if i < 256).decode()
    assert write_call("get_weather", PARIS) in prompt
    assert prompt.count("sunny") == 2


# --- both ----------------------------------------------------------------------------------------

BAD_SCHEMA = {"type": "object", "properties": {"a": {"type": "strnig"}}}


@pytest.mark.parametrize(
    ("path", "body", "says_so"),
    [
        (RESPONSES, ASKED | {"tools": [FLAT[1], FLAT[1]]}, "'tools[1].name'"),
        (RESPONSES, ASKED | {"tools": [FLAT[1] | {"name": "a b"}]}, "'tools[0].name'"),
        (RESPONSES, ASKED | {"tools": [FLAT[1] | {"parameters": BAD_SCHEMA, "strict": True}]},
         "'tools[0].parameters"),
        (RESPONSES, ASKED | {"tool_choice": {"type": "function", "name": "x"}}, "'tool_choice"),
        (MESSAGES, MESSAGE | {"tools": [ANTHROPIC[1], ANTHROPIC[1]]}, "'tools[1].name'"),
        (MESSAGES,
         MESSAGE | {"tools": [ANTHROPIC[1] | {"input_schema": BAD_SCHEMA, "strict": True}]},
         "'tools[0].input_schema"),
        (MESSAGES, MESSAGE | {"tool_choice": {"type": "tool", "name": "x"}}, "'tool_choice"),
    ],
)  # fmt: skip
def test_what_chat_refuses_is_refused_in_other_words(
    served: Served, path: str, body: dict[str, Any], says_so: str
) -> None:
    answer = served.post(path, body)
    assert answer.status_code == 400, answer.text
    assert says_so in answer.json()["error"]["message"]
    assert "function." not in answer.json()["error"]["message"]


def test_the_openai_client_runs_tools(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        response = client.responses.create(**ASKED)
        first = response.output[0]
        assert first.type == "function_call"
        assert json.loads(first.arguments) == {"city": "Paris"}
        with client.responses.stream(**ASKED) as stream:
            kinds = {event.type for event in stream}
        assert "response.function_call_arguments.delta" in kinds


def test_the_anthropic_client_runs_tools(served: Served) -> None:
    with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0) as client:
        message = client.messages.create(**MESSAGE)
        assert message.stop_reason == "tool_use"
        with client.messages.stream(**MESSAGE) as stream:
            final = stream.get_final_message()
    assert [block.input for block in final.content] == [{"city": "Paris"}, {}]


def test_refused_tools_leave_no_trace(served: Served) -> None:
    """A model without a chat template takes no tools, and says so before the 200."""
    with live(state_of(engine_that_says("Hi"), template=None)) as url:
        answer = httpx.post(url + RESPONSES, json=ASKED | {"stream": True}, trust_env=False)
    assert answer.status_code == 400
