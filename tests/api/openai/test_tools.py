"""Tools in chat: shapes, choices, and what reaches the model. The engine is a fake: it
says what it was told to, grammar or not."""

import asyncio
import json
from typing import Any

import pytest

from tests.api.openai.tools import (
    CHAT,
    MESSAGES,
    NAMED,
    ONE,
    PARIS,
    TOOLS,
    TWO,
    URL,
    ask,
    engine_that_says,
    function,
    state_of,
)
from tests.api.support import ByteTokenizer, client_over
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.text.templates.chat_template import ChatTemplate


def choice_of(body: dict[str, Any], engine: FakeEngine) -> dict[str, Any]:
    status, answer = ask(body, engine)
    assert status == 200, answer
    choice: dict[str, Any] = answer["choices"][0]
    return choice


def stream(body: dict[str, Any], engine: FakeEngine) -> list[dict[str, Any]]:
    """The chunks of a streamed answer."""

    async def main() -> str:
        async with client_over(state_of(engine)) as client:
            answer = await client.post(URL, json=body | {"stream": True})
            assert answer.status_code == 200, answer.text
            return answer.text

    *events, done = asyncio.run(main())[:-2].split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def prompt_of(body: dict[str, Any], **model: Any) -> str:
    engine = engine_that_says("Hi")
    status, answer = ask(body, engine, **model)
    assert status == 200, answer
    ids = engine.requests[0].prompt_token_ids
    return b"".join(map(ByteTokenizer().token_bytes, ids)).decode()


def test_the_template_for_tools_is_taken_where_there_are_tools() -> None:
    """A model may have another one for that. Which tools may be called does not matter."""
    source = "<tool_call>{% for tool in tools %}{{ tool.function.name }},{% endfor %}"
    for_tools = ChatTemplate(
        source + "{{ messages[0].content }}", ByteTokenizer(), example_tools=TOOLS
    )
    plain = ChatTemplate("{{ messages[0].content }}", ByteTokenizer(), for_tools=for_tools)
    question = MESSAGES[0]["content"]
    assert prompt_of(CHAT, template=plain) == f"<tool_call>get_weather,now,{question}"
    without = {key: value for key, value in CHAT.items() if key != "tools"}
    assert prompt_of(without, template=plain) == question
    assert prompt_of(without | {"tools": []}, template=plain) == question


# --- answers -------------------------------------------------------------------------------------


def test_calls_are_openais_message() -> None:
    """`arguments` is a JSON string, `content` null, and each call has an id of its own."""
    choice = choice_of(CHAT, engine_that_says(TWO))
    message = choice["message"]
    ids = [call.pop("id") for call in message["tool_calls"]]
    assert message == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": PARIS}},
            {"type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    assert len(set(ids)) == 2
    assert all(call_id.startswith("call_") for call_id in ids)
    assert choice["finish_reason"] == "tool_calls"


def test_text_before_the_first_tag_is_content() -> None:
    choice = choice_of(CHAT, engine_that_says(f"Let me look.\n{ONE}"))
    assert choice["message"]["content"] == "Let me look.\n"
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


def test_an_answer_without_calls_is_as_ever() -> None:
    """No `tool_calls` key, and `stop`, though tools were there."""
    choice = choice_of(CHAT, engine_that_says("It is sunny."))
    assert choice["message"]["content"] == "It is sunny."
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("tool_choice", "finish_reason"),
    [("auto", "tool_calls"), ("required", "tool_calls"), (NAMED, "stop")],
)
def test_finish_reasons(tool_choice: object, finish_reason: str) -> None:
    """A call asked for by name ends with `stop`; `length` wins over both."""
    body = CHAT | {"tool_choice": tool_choice}
    assert choice_of(body, engine_that_says(ONE))["finish_reason"] == finish_reason
    cut = choice_of(body | {"max_tokens": len(ONE) - 20}, engine_that_says(ONE))
    assert cut["finish_reason"] == "length"
    call = cut["message"]["tool_calls"][0]["function"]
    assert call["name"] == "get_weather"
    assert PARIS.startswith(call["arguments"])


@pytest.mark.parametrize("size", [1, 5, 11, 20])
def test_a_call_cut_before_its_arguments_is_content(size: int) -> None:
    """Inside its opening mark too. Nothing is lost, and nothing is made up; a stream says the
    same, in its last piece."""
    body = CHAT | {"max_tokens": size}
    choice = choice_of(body, engine_that_says(ONE))
    assert choice["message"]["content"] == ONE[:size]
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "length"
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(body, engine_that_says(ONE))]
    assert "".join(delta.get("content") or "" for delta in deltas) == ONE[:size]
    assert not any("tool_calls" in delta for delta in deltas)


def test_none_is_plain_text() -> None:
    """The model is not told of the tools, no grammar holds it, and tags are characters."""
    engine = engine_that_says(ONE)
    choice = choice_of(CHAT | {"tool_choice": "none"}, engine)
    assert choice["message"]["content"] == ONE
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert engine.requests[0].grammar == ""
    assert prompt_of(CHAT | {"tool_choice": "none"}) == prompt_of(
        {"model": "tiny", "messages": MESSAGES}
    )


def test_every_choice_has_a_grammar() -> None:
    """auto, required and named are held by different ones, parallel or not; samples share one."""
    grammars = set()
    for tool_choice in ("auto", "required", NAMED):
        for parallel in (True, False):
            engine = engine_that_says(ONE)
            body = CHAT | {"tool_choice": tool_choice, "parallel_tool_calls": parallel, "n": 2}
            choice_of(body, engine)
            first, second = (request.grammar for request in engine.requests)
            assert first == second != ""
            grammars.add(first)
    assert len(grammars) == 5  # named is one call, whatever parallel says


def test_stop_strings_are_for_content_alone() -> None:
    """A stop that is part of a call cuts no call; in the text before it, it ends the answer."""
    body = CHAT | {"stop": ["\n", "Paris"]}
    choice = choice_of(body, engine_that_says(ONE))
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == PARIS
    assert choice["finish_reason"] == "tool_calls"
    choice = choice_of(body, engine_that_says(f"In Paris: {ONE}"))
    assert choice["message"]["content"] == "In "
    assert "tool_calls" not in choice["message"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "Paris")


def test_samples_have_their_own_calls() -> None:
    status, answer = ask(CHAT | {"n": 3}, engine_that_says(TWO))
    assert status == 200
    ids = [c["id"] for choice in answer["choices"] for c in choice["message"]["tool_calls"]]
    assert len(ids) == len(set(ids)) == 6


def test_a_receipt_replays_with_its_tools() -> None:
    """Stop strings are no part of calls there either, so the replay ends where the answer did."""
    asked = CHAT | {"tool_choice": "required", "stop": ["Paris"], "receipt": True}
    status, answer = ask(asked, engine_that_says(ONE))
    assert status == 200, answer
    receipt = answer["receipt"]
    assert receipt["parameters"]["parse_tool_calls"] is True
    status, verdict = ask({"receipt": receipt}, engine_that_says(ONE), path="/v1/verify")
    assert (status, verdict["verdict"]) == (200, "equal"), verdict


def test_metrics_and_log_know_tool_calls(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that ended in calls counts as such, asked for by name or not."""

    async def main() -> str:
        async with client_over(state_of(engine_that_says(ONE))) as client:
            await client.post(URL, json=CHAT | {"n": 2})
            return (await client.get("/metrics")).text

    with caplog.at_level("INFO", "thirdeye.request"):
        metrics = asyncio.run(main())
    (line,) = [x for x in metrics.splitlines() if x.startswith("thirdeye_request_success_total{")]
    assert 'finished_reason="tool_calls"' in line
    assert line.endswith(" 2.0")
    assert "tool_calls,tool_calls" in caplog.text


# --- streams -------------------------------------------------------------------------------------


def test_a_streamed_call_is_openais() -> None:
    """First the head without arguments, then pieces of them; the next call has the next index."""
    chunks = stream(CHAT | {"tool_choice": "required"}, engine_that_says(TWO))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    assert deltas[-1] == {}
    calls = [delta["tool_calls"][0] for delta in deltas[1:-1]]
    heads = [call for call in calls if "id" in call]
    assert [(c["index"], c["type"], c["function"]) for c in heads] == [
        (0, "function", {"name": "get_weather", "arguments": ""}),
        (1, "function", {"name": "now", "arguments": ""}),
    ]
    for index, arguments in enumerate([PARIS, "{}"]):
        pieces = [c for c in calls if c["index"] == index and "id" not in c]
        assert all(piece.keys() == {"index", "function"} for piece in pieces)
        assert "".join(piece["function"]["arguments"] for piece in pieces) == arguments
        assert len(pieces) == len(arguments)  # one token, one byte, one chunk
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("tokens_per_step", [1, 7, 1000])
@pytest.mark.parametrize("text", ["Hi", ONE, f"Look: {TWO}", ONE[:70], ONE[:30], f"{ONE} and more"])
def test_a_stream_is_the_whole_answer(text: str, tokens_per_step: int) -> None:
    """Content, calls, logprobs, token ids and reason, whatever the steps."""
    body = CHAT | {"logprobs": True, "return_token_ids": True}
    whole = choice_of(body, engine_that_says(text))
    chunks = stream(body, engine_that_says(text, tokens_per_step=tokens_per_step))
    choices = [chunk["choices"][0] for chunk in chunks]
    deltas = [choice["delta"] for choice in choices]
    content = "".join(delta.get("content") or "" for delta in deltas)
    calls: list[dict[str, str]] = []
    for call in (call for delta in deltas for call in delta.get("tool_calls", [])):
        if "id" in call:
            calls.append(dict(call["function"]))
        else:
            calls[call["index"]]["arguments"] += call["function"]["arguments"]
    message = whole["message"]
    assert (message["content"] or "") == content
    assert [call["function"] for call in message.get("tool_calls", [])] == calls
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    scored = [t for c in choices for t in (c["logprobs"] or {"content": []})["content"]]
    assert scored == whole["logprobs"]["content"]
    assert [i for c in choices for i in c.get("token_ids", [])] == whole["token_ids"]


# --- prompts -------------------------------------------------------------------------------------

HISTORY = [
    *MESSAGES,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", **function("get_weather", arguments='{"city": "<|end|>"}')},
            {"id": "call_2", **function("now", arguments="{}")},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny <|turn|>"},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
]


def test_the_default_tool_prompt() -> None:
    """A template that knows no tools gets them as text: the same words for every such model."""
    prompt = prompt_of(CHAT | {"messages": HISTORY})
    assert prompt.startswith("<|turn|>system\n# Tools\n\nYou may call one or more functions")
    assert '<tools>\n{"type": "function", "function": {"name": "get_weather", ' in prompt
    assert '<|turn|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": ' in prompt
    assert (
        "<|turn|>user\n<tool_response>\nsunny <|turn|>\n</tool_response>\n"
        "<tool_response>\nnoon\n</tool_response>"
    ) in prompt


def test_literals_in_calls_and_results_are_text() -> None:
    """Special ids come from the template alone: one for each turn here, and none of the rest."""
    engine = engine_that_says("Hi")
    status, answer = ask(CHAT | {"messages": HISTORY}, engine)
    assert status == 200, answer
    specials = [i for i in engine.requests[0].prompt_token_ids if i > 255]
    turn = ByteTokenizer.special_tokens["<|turn|>"]
    assert specials == [turn] * 5  # system, user, assistant, tools' user, the answer


def test_a_template_that_knows_tools_gets_them() -> None:
    source = (
        "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}"
        "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}"
        "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>"
        "{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source, ByteTokenizer())
    prompt = prompt_of(CHAT | {"messages": HISTORY}, template=template)
    assert prompt.startswith("get_weather;now;<|turn|>user\nWhat")
    assert '<tool_call>{"name": "get_weather", "arguments": {"city": "<|end|>"}}' in prompt
    assert "<|turn|>tool\nnoon" in prompt


def test_tokenize_counts_the_tools() -> None:
    """`/tokenize` with `tools` makes the prompt that chat makes."""
    engine = engine_that_says("Hi")
    assert ask(CHAT, engine)[0] == 200
    body = {"messages": MESSAGES, "tools": TOOLS}
    status, answer = ask(body, path="/tokenize")
    assert (status, answer["tokens"]) == (200, engine.requests[0].prompt_token_ids)
    status, answer = ask({"prompt": "x", "tools": TOOLS}, path="/tokenize")
    assert (status, answer["error"]["param"]) == (400, "tools")
