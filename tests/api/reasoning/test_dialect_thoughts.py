"""Thoughts in the Responses and Messages dialects: whole, streamed, switched, and sent back.

What comes out is also held against the services' own schemas (`tests/oracles/wire.py`).
"""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.api.reasoning.thinker import asked, prompt_of
from tests.api.support import Served, fake_engine, says

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
ASK: dict[str, Any] = {"model": "tiny", "input": "Hi"}
SAY: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "Hi"}],
}
ON = {"thinking": {"type": "enabled", "budget_tokens": 64}}
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def events(served: Served, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = served.post(path, body | {"stream": True})
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]


def test_a_response_has_an_item_for_the_thoughts(thinker: Served) -> None:
    response = thinker.whole(RESPONSES, ASK | {"reasoning": {"effort": "high", "summary": "auto"}})
    thought, message = response["output"]
    assert thought["type"] == "reasoning"
    assert thought["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert message["content"][0]["text"] == "Hello!"
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert response["reasoning"] == {"effort": "high", "summary": "auto"}


def test_its_stream_says_each_part(thinker: Served) -> None:
    found = events(thinker, RESPONSES, ASK)
    kinds = [event["type"] for event in found]
    named = [kind for kind in dict.fromkeys(kinds) if "reasoning" in kind]
    assert named == [
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
    ]
    deltas = [e["delta"] for e in found if e["type"] == "response.reasoning_summary_text.delta"]
    assert "".join(deltas) == "Let me see."
    assert [e["sequence_number"] for e in found] == [*range(len(found))]


def test_openais_client_reads_the_thoughts(thinker: Served) -> None:
    with (
        openai.OpenAI(base_url=f"{thinker.url}/v1", api_key="x", max_retries=0) as client,
        client.responses.stream(model="tiny", input="Hi") as stream,
    ):
        response = stream.get_final_response()
    first = response.output[0]
    assert first.type == "reasoning"
    assert first.summary[0].text == "Let me see."
    assert response.output_text == "Hello!"


def test_logprobs_of_a_response_are_the_contents(thinker: Served) -> None:
    body = ASK | {"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}
    message = thinker.whole(RESPONSES, body)["output"][1]
    tokens = [entry["token"] for entry in message["content"][0]["logprobs"]]
    assert "".join(tokens).strip() == "Hello!"


def test_effort_none_is_off(thinker: Served) -> None:
    _, prompt = asked(thinker, RESPONSES, ASK | {"reasoning": {"effort": "none"}})
    assert prompt.endswith("</think>\n\n")


def test_items_of_thoughts_come_back_in(thinker: Served) -> None:
    """In front of a message, and in front of a call, which is then another turn's."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [summary("I see.")]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = [
        {"role": "user", "content": "Hi"},
        thought | {"encrypted_content": "gAAA"},
        {"role": "assistant", "content": "Hello."},
        thought | {"summary": [summary("Then f.")]},
        call,
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
    ]
    _, prompt = asked(thinker, RESPONSES, ASK | {"input": items})
    assert (
        "|assistant\n<think>I see.</think>Hello.|assistant\n<think>Then f.</think><tool_call>"
        in prompt
    )
    told = httpx.post(thinker.url + RESPONSES, json=ASK | {"input": items}, trust_env=False)
    assert told.headers["x-ignored-params"] == (
        "input[1].encrypted_content, input[6].encrypted_content"
    ), "what is sealed for others is named, whether or not there is a summary to read"


def summary(text: str) -> dict[str, str]:
    return {"type": "summary_text", "text": text}


def test_a_message_has_a_block_for_the_thoughts(thinker: Served) -> None:
    thought, text = thinker.whole(MESSAGES, SAY | ON)["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Let me see.")
    assert thought["signature"]
    assert text["text"] == "Hello!"


def test_its_stream_has_the_signature_last(thinker: Served) -> None:
    found = [e for e in events(thinker, MESSAGES, SAY | ON) if "index" in e]
    deltas = [e["delta"] for e in found if e["index"] == 0 and "delta" in e]
    assert "".join(d.get("thinking", "") for d in deltas) == "Let me see."
    assert deltas[-1]["type"] == "signature_delta"
    assert {d["type"] for d in deltas[:-1]} == {"thinking_delta"}


def test_anthropics_client_reads_the_thoughts_of_a_tools_use(thinker: Served) -> None:
    thinker.use(fake_engine(says(f"<think>\nI need f.\n</think>\n\n{CALL}")))
    with (
        anthropic.Anthropic(base_url=thinker.url, api_key="x", max_retries=0) as client,
        client.messages.stream(
            **SAY,
            thinking={"type": "enabled", "budget_tokens": 1024},
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
        ) as stream,
    ):
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.stop_reason == "tool_use"


def test_a_budget_is_the_engines_to_hold(thinker: Served) -> None:
    request, _ = asked(thinker, MESSAGES, SAY | ON)
    assert request.thinking.max_tokens == 64


@pytest.mark.parametrize("quiet", [{}, {"thinking": {"type": "adaptive", "display": "omitted"}}])
def test_thoughts_are_left_out_unless_they_were_asked_for(thinker: Served, quiet: Any) -> None:
    (block,) = thinker.whole(MESSAGES, SAY | quiet)["content"]
    assert block["text"] == "Hello!"


def test_disabled_is_off(thinker: Served) -> None:
    engine = thinker.use(fake_engine(says("Hello!")))
    thinker.whole(MESSAGES, SAY | {"thinking": {"type": "disabled"}})
    assert prompt_of(engine).endswith("</think>\n\n")


def test_blocks_of_thoughts_come_back_in(thinker: Served) -> None:
    earlier = [
        {"type": "thinking", "thinking": "I see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "gAAA"},
        {"type": "text", "text": "Hello."},
    ]
    messages = [*SAY["messages"], {"role": "assistant", "content": earlier}, *SAY["messages"]]
    _, prompt = asked(thinker, MESSAGES, SAY | ON | {"messages": messages})
    assert "<think>I see.</think>Hello." in prompt


THOUGHT = {"type": "thinking", "thinking": "I see.", "signature": "c2ln"}
EARLIER = [
    (
        "/v1/chat/completions",
        {"role": "assistant", "content": "Hello.", "reasoning_content": "I see.", "reasoning": ""},
        "messages[1].reasoning_content",
    ),
    (
        "/v1/chat/completions",
        {"role": "assistant", "content": "Hello.", "thinking_blocks": [THOUGHT]},
        "messages[1].thinking_blocks",
    ),
    (
        MESSAGES,
        {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "Hello."}]},
        "messages[1].content[0]",
    ),
    (
        RESPONSES,
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I see."}]},
        "input[1]",
    ),
    (
        "/api/chat",
        {"role": "assistant", "content": "Hello.", "thinking": "I see."},
        "messages[1].thinking",
    ),
]


@pytest.mark.parametrize(("url", "earlier", "name"), EARLIER)
def test_thoughts_that_reach_no_prompt_are_named(
    served: Served, thinker: Served, url: str, earlier: dict[str, Any], name: str
) -> None:
    """Those of another model, sent back to one whose template reads none."""
    turns = [SAY["messages"][0], earlier, SAY["messages"][0]]
    body: dict[str, Any] = {"input": turns} if url == RESPONSES else {"messages": turns}
    body |= {"max_tokens": 300} if url == MESSAGES else {}
    answer = served.post(url, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Ignored-Params"] == name
    answer = thinker.post(url, body)
    assert answer.status_code == 200, answer.text
    assert "X-Ignored-Params" not in answer.headers


def test_what_another_model_redacted_is_named(thinker: Served) -> None:
    earlier = {
        "role": "assistant",
        "content": [THOUGHT, {"type": "redacted_thinking", "data": "g"}],
    }
    body = SAY | {"messages": [*SAY["messages"], earlier, *SAY["messages"]]}
    assert thinker.post(MESSAGES, body).headers["X-Ignored-Params"] == "messages[1].content[1]"


def test_an_effort_alone_is_obeyed_or_named(served: Served, thinker: Served) -> None:
    """It says no less where nobody says whether to think."""
    effort = SAY | {"output_config": {"effort": "high"}}
    for model in (served, thinker):  # neither has a word for how hard
        assert model.post(MESSAGES, effort).headers["X-Ignored-Params"] == "output_config.effort"
    off = effort | {"thinking": {"type": "disabled"}}
    assert thinker.post(MESSAGES, off).headers["X-Ignored-Params"] == "output_config.effort"


def test_thinking_of_a_model_that_does_not_is_a_hint(served: Served) -> None:
    answer = served.post(MESSAGES, SAY | ON)
    assert answer.status_code == 200
    assert "thinking" in answer.headers["X-Ignored-Params"]
    answer = served.post(RESPONSES, ASK | {"reasoning": {"effort": "medium"}})
    assert answer.headers["X-Ignored-Params"] == "reasoning.effort"
