"""Chat with a model that thinks: what may be asked, what comes out, what comes back in."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.api.reasoning.thinker import (
    ALWAYS,
    ANSWER,
    LEVELS,
    SWITCHED,
    asked,
    prompt_of,
    thinking_server,
)
from tests.api.support import CHAT, ByteTokenizer, Served, fake_engine, says

URL = "/v1/chat/completions"
Json = dict[str, Any]
TOOL: Json = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def always() -> Iterator[Served]:
    with thinking_server(ALWAYS) as served:
        yield served


@pytest.fixture(scope="module")
def levels() -> Iterator[Served]:
    with thinking_server(LEVELS) as served:
        yield served


def streamed(served: Served, **changes: Any) -> list[Json]:
    answer = served.post(URL, CHAT | {"stream": True} | changes)
    assert answer.status_code == 200, answer.text
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


# --- answers -------------------------------------------------------------------------------------


def test_thoughts_stand_beside_the_content(thinker: Served) -> None:
    answer = thinker.whole(URL, CHAT)
    message = answer["choices"][0]["message"]
    assert message["content"] == "Hello!"
    assert message["reasoning_content"] == message["reasoning"] == "Let me see."
    num_thought = len("<think>\nLet me see.\n</think>")
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == num_thought
    assert answer["usage"]["completion_tokens"] == len(ANSWER)


def test_a_stream_has_deltas_of_both(thinker: Served) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(thinker)]
    for name in ("reasoning_content", "reasoning"):
        assert "".join(delta.get(name, "") for delta in deltas) == "Let me see."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello!"
    kinds = ["thought" if "reasoning" in d else "text" for d in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True), "thoughts come first"


def test_an_answer_without_thoughts_has_no_key_for_them(thinker: Served) -> None:
    thinker.use(fake_engine(says("Hello!")))
    answer = thinker.whole(URL, CHAT)
    assert "reasoning" not in answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("off", [{"include_reasoning": False}, {"reasoning": {"exclude": True}}])
def test_thoughts_may_be_left_out_and_are_still_counted(thinker: Served, off: Json) -> None:
    answer = thinker.whole(URL, CHAT | off)
    message = answer["choices"][0]["message"]
    assert message["content"] == "Hello!"
    assert "reasoning" not in message
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_an_answer_cut_in_its_thinking_is_thought(thinker: Served) -> None:
    thinker.use(fake_engine(says("<think>Let me")))
    choice = thinker.whole(URL, CHAT)["choices"][0]
    assert choice["message"]["content"] == ""
    assert choice["message"]["reasoning_content"] == "Let me"


def test_stop_strings_begin_behind_the_thinking(thinker: Served) -> None:
    choice = thinker.whole(URL, CHAT | {"stop": ["e"]})["choices"][0]
    assert choice["message"]["reasoning_content"] == "Let me see."
    assert choice["message"]["content"] == "H"
    assert choice["stop_reason"] == "e"


def test_tool_calls_begin_behind_the_thinking(thinker: Served) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    thinker.use(fake_engine(says(f"<think>{call}</think>\n\n{call}")))
    tools = [{"type": "function", "function": {"name": "f"}}]
    message = thinker.whole(URL, CHAT | {"tools": tools})["choices"][0]["message"]
    assert message["reasoning_content"] == call
    assert [c["function"]["name"] for c in message["tool_calls"]] == ["f"]


class CallingTokenizer(ByteTokenizer):
    """With one token for what begins a call, as the families have it that think and call."""

    special_tokens: ClassVar = ByteTokenizer.special_tokens | {"<tool_call>": 259}


@pytest.mark.parametrize("budget", [{}, {"thinking_token_budget": 300}], ids=str)
def test_a_call_ends_thinking_that_was_never_closed(thinker: Served, budget: Json) -> None:
    head, rest = "<think>I need f, by <tool_call>.\n", '{"name": "f", "arguments": {}}</tool_call>'
    answer = [*head.encode(), 259, *says("\n" + rest)]
    engine = thinker.use(fake_engine(answer), tokenizer=CallingTokenizer())
    tools = [{"type": "function", "function": {"name": "f"}}]
    choice = thinker.whole(URL, CHAT | {"tools": tools} | budget)["choices"][0]
    assert choice["message"]["reasoning_content"] == "I need f, by <tool_call>."
    assert [c["function"]["name"] for c in choice["message"]["tool_calls"]] == ["f"]
    assert choice["finish_reason"] == "tool_calls"
    assert engine.requests[-1].thinking.call_id == 259
    thinker.use(fake_engine(answer), tokenizer=CallingTokenizer())
    told = thinker.whole(URL, CHAT | budget)["choices"][0]["message"]
    assert "tool_calls" not in told, "without tools there is no call"


def test_logprobs_cover_the_content_and_the_thinking_where_it_is_asked_for(thinker: Served) -> None:
    for more in ({}, {"include_reasoning_logprobs": True}):
        body = CHAT | {"logprobs": True} | more
        found = thinker.whole(URL, body)["choices"][0]["logprobs"]
        assert "".join(t["token"] for t in found["content"]) == "\n\nHello!<|end|>"
        assert ("reasoning_content" in found) == bool(more)
        if more:
            text = "".join(t["token"] for t in found["reasoning_content"])
            assert text == "<think>\nLet me see.\n</think>"


def test_their_logprobs_need_logprobs(thinker: Served) -> None:
    answer = thinker.post(URL, CHAT | {"include_reasoning_logprobs": True})
    assert answer.status_code == 400
    assert "needs 'logprobs'" in answer.text


# --- requests ------------------------------------------------------------------------------------

CLOSED = "assistant\n<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    "off",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"enable_thinking": False},
        {"think": False},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
        {"reasoning_effort": "none"},
    ],
    ids=str,
)
def test_thinking_is_turned_off_by_any_name(thinker: Served, off: Json) -> None:
    """An answer to such a prompt is all content, whatever it looks like."""
    engine = thinker.use(fake_engine(ANSWER))
    message = thinker.whole(URL, CHAT | off)["choices"][0]["message"]
    assert prompt_of(engine).endswith(CLOSED)
    assert message["content"].startswith("<think>")
    assert engine.requests[-1].thinking is None


@pytest.mark.parametrize(
    "on",
    [{"enable_thinking": True}, {"reasoning_effort": "high"}, {"thinking": {"type": "adaptive"}}],
)
def test_thinking_is_turned_on_by_any_name(thinker: Served, on: Json) -> None:
    _, prompt = asked(thinker, URL, CHAT | on)
    assert prompt.endswith("assistant\n")


def test_a_level_without_a_word_in_the_template_is_a_hint(thinker: Served) -> None:
    answer = thinker.post(URL, CHAT | {"reasoning_effort": "low"})
    assert answer.headers["X-Ignored-Params"] == "reasoning_effort"


def test_a_level_reaches_a_template_that_reads_it(levels: Served) -> None:
    for sent, said in (("high", "high"), ("minimal", "low"), ("xhigh", "high")):
        levels.use(engine := fake_engine(ANSWER))
        answer = levels.post(URL, CHAT | {"reasoning_effort": sent})
        assert "X-Ignored-Params" not in answer.headers
        assert prompt_of(engine).startswith(f"|Reasoning: {said}")


@pytest.mark.parametrize(
    "budget",
    [
        {"thinking_token_budget": 7},
        {"thinking_budget": 7},
        {"reasoning": {"max_tokens": 7}},
        {"thinking": {"type": "enabled", "budget_tokens": 7}},
    ],
    ids=str,
)
def test_a_budget_is_the_engines_to_hold(thinker: Served, budget: Json) -> None:
    request, _ = asked(thinker, URL, CHAT | budget)
    assert request.thinking.max_tokens == 7
    assert bytes(request.thinking.open_ids) == b"<think>"
    assert bytes(request.thinking.close_ids) == b"</think>"


def test_where_there_is_no_switch_off_is_a_budget_of_nothing(always: Served) -> None:
    request, prompt = asked(always, URL, CHAT | {"reasoning_effort": "none"})
    assert prompt.endswith("<think>\n")
    assert request.thinking.max_tokens == 0
    assert request.thinking.open_ids == []


def test_a_prompt_that_begins_the_thinking(always: Served) -> None:
    always.use(fake_engine(says("Let me see.\n</think>\n\nHello!")))
    message = always.whole(URL, CHAT)["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("Let me see.", "Hello!")


def test_a_grammar_and_a_least_length_begin_behind_the_thinking(thinker: Served) -> None:
    plain, _ = asked(thinker, URL, CHAT | {"enable_thinking": False} | JSON_ANSWER)
    request, _ = asked(thinker, URL, CHAT | JSON_ANSWER | {"min_tokens": 3})
    assert request.thinking.min_tokens == 3
    assert request.sampling.min_tokens == 0
    first, second = json.loads(request.grammar)["grammars"]
    assert "@answer" in first["lark_grammar"]
    assert {**second, "name": None} == {**json.loads(plain.grammar)["grammars"][0], "name": None}
    assert (plain.thinking, plain.sampling.min_tokens) == (None, 0)


JSON_ANSWER = {"response_format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("body", "param", "says_what"),
    [
        ({"chat_template_kwargs": {"foo": 1}}, "chat_template_kwargs.foo", "enable_thinking"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "not read"),
        ({"chat_template_kwargs": ["a"]}, "chat_template_kwargs", "object"),
        ({"enable_thinking": True, "think": False}, "think", "must agree with 'enable_thinking'"),
        ({"thinking_budget": 1, "thinking_token_budget": 2}, "thinking_budget", "must equal"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "must be"),
        ({"separate_reasoning": False}, "separate_reasoning", "stand apart"),
        ({"reasoning_format": "none"}, "reasoning_format", "stand apart"),
        ({"reasoning_format": "deepseek-legacy"}, "reasoning_format", "stand apart"),
    ],
    ids=str,
)
def test_what_cannot_be_obeyed_is_refused_by_name(
    thinker: Served, body: Json, param: str, says_what: str
) -> None:
    answer = thinker.post(URL, CHAT | body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert says_what.lower() in error["message"].lower()


@pytest.mark.parametrize(
    "asked_for",
    [
        {"reasoning_format": "auto"},
        {"reasoning_format": "deepseek"},
        {"reasoning_format": "none", "enable_thinking": False},
        {"separate_reasoning": False, "reasoning_effort": "none"},
    ],
)
def test_a_place_for_thoughts_that_they_have_or_need_not_have(
    thinker: Served, asked_for: Json
) -> None:
    answer = thinker.post(URL, CHAT | asked_for)
    assert answer.status_code == 200, answer.text
    assert "X-Ignored-Params" not in answer.headers


def test_to_a_model_that_does_not_think_all_of_it_is_a_hint(served: Served) -> None:
    asking = {"reasoning_effort": "high", "thinking_token_budget": 9, "enable_thinking": True}
    answer = served.post(URL, CHAT | asking)
    assert answer.status_code == 200
    ignored = "enable_thinking, reasoning_effort, thinking_token_budget"
    assert answer.headers["X-Ignored-Params"] == ignored
    for neutral in (
        {"reasoning_effort": "none"},
        {"think": False},
        {"chat_template_kwargs": {}},
        {"separate_reasoning": False},
        {"reasoning_format": "none"},
    ):
        answer = served.post(URL, CHAT | neutral)
        assert answer.status_code == 200
        assert "X-Ignored-Params" not in answer.headers


# --- history -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        {"reasoning_content": "I see."},
        {"reasoning": "I see."},
        {"reasoning_content": None, "reasoning": "I see."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "I see.", "index": 0}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I see.", "signature": "x"}]},
        {
            "content": [
                {
                    "type": "thinking",
                    "thinking": [{"type": "text", "text": "I see."}],
                    "closed": True,
                },
                {"type": "text", "text": "Hi"},
            ]
        },
        {"content": [{"type": "thinking", "thinking": "I see."}, {"type": "text", "text": "Hi"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("source", "written"),
    [(SWITCHED, "<think>I see.</think>Hi"), (LEVELS, "analysis<|message|>I see.<|end|>Hi")],
    ids=["reasoning_content", "thinking"],
)
def test_thoughts_come_back_in_and_reach_the_template(
    thinker: Served, levels: Served, sent: Json, source: str, written: str
) -> None:
    served = thinker if source is SWITCHED else levels
    earlier = {"role": "assistant", "content": "Hi"} | sent
    messages = [*CHAT["messages"], earlier, {"role": "user", "content": "And?"}]
    _, prompt = asked(served, URL, CHAT | {"messages": messages})
    assert written in prompt


def test_thoughts_among_the_content_are_named_where_no_template_reads_them(served: Served) -> None:
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "I see."}]}
    text = {"type": "text", "text": "Hi"}
    messages = [*CHAT["messages"], {"role": "assistant", "content": [part, text]}]
    more = {"messages": [*messages, *CHAT["messages"]]}
    answer = served.post(URL, CHAT | more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Ignored-Params"] == "messages[1].content"
    for wrong in ({"thinking": 1}, {"x": 1}, {"closed": 1}, {"signature": 1}):
        (name,) = wrong
        messages[1]["content"] = [text, part | wrong]
        error = served.post(URL, CHAT | {"messages": messages}).json()["error"]
        assert error["param"] == f"messages[1].content[1].{name}"


def test_an_answer_can_be_sent_back_as_it_is(thinker: Served) -> None:
    message = thinker.whole(URL, CHAT)["choices"][0]["message"]
    messages = [*CHAT["messages"], message, {"role": "user", "content": "And?"}]
    _, prompt = asked(thinker, URL, CHAT | {"messages": messages})
    assert "<think>Let me see.</think>Hello!" in prompt


def test_tokenize_takes_the_variables_too(thinker: Served) -> None:
    body = {"messages": CHAT["messages"], "chat_template_kwargs": {"enable_thinking": False}}
    tokens = thinker.whole("/tokenize", body)["tokens"]
    assert bytes(t for t in tokens if t < 256).decode().endswith("</think>\n\n")


def test_allowed_tokens_are_those_of_the_thinking_too(thinker: Served) -> None:
    allowed = {"allowed_token_ids": [65, 257], "min_tokens": 2}
    request, _ = asked(thinker, URL, CHAT | allowed)
    assert request.grammar == '{"token_ids": [65, 257]}'
    assert request.thinking is None
    assert request.sampling.min_tokens == 2


@pytest.mark.parametrize("field", [{"thinking_token_budget": 3}, {"tools": [TOOL]}])
def test_what_needs_other_tokens_cannot_go_with_allowed_ones(thinker: Served, field: Json) -> None:
    answer = thinker.post(URL, CHAT | {"allowed_token_ids": [65]} | field)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "allowed_token_ids"


# --- what no request says ------------------------------------------------------------------------

OFF = {"template_variables": {"enable_thinking": False}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (URL, CHAT),
        ("/v1/responses", {"model": "tiny", "input": "Hi"}),
        ("/v1/messages", CHAT | {"max_tokens": 50}),
        ("/api/chat", CHAT | {"stream": False}),
    ],
)
def test_the_operator_s_variables_reach_every_dialect_s_prompt(
    thinker: Served, path: str, body: Json
) -> None:
    engine = thinker.use(fake_engine(says("Hello!")), **OFF)
    thinker.whole(path, body)
    assert CLOSED in prompt_of(engine)


def test_a_request_that_says_otherwise_is_obeyed(thinker: Served) -> None:
    for says_so in ({"enable_thinking": True}, {"chat_template_kwargs": {"enable_thinking": True}}):
        engine = thinker.use(fake_engine(ANSWER), **OFF)
        assert thinker.whole(URL, CHAT | says_so)["choices"][0]["message"]["reasoning_content"]
        assert CLOSED not in prompt_of(engine)


def test_the_operator_s_variables_are_in_what_is_rendered_and_counted(thinker: Served) -> None:
    thinker.use(fake_engine(says("Hello!")), **OFF)
    rendered = thinker.whole("/apply-template", CHAT)
    assert rendered["prompt"].endswith(CLOSED)
    counted = thinker.whole("/tokenize", CHAT)["count"]
    assert counted == thinker.whole(f"{URL}/input_tokens", CHAT)["input_tokens"]
    body = {"messages": CHAT["messages"]}
    assert len(thinker.whole("/v1/inspect", body)["tokens"]) == counted
