"""Tools of each family over HTTP: the form is the template's, whole, streamed, in all dialects."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.api.support import CHAT, ByteTokenizer, Served, fake_engine, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine
from tests.text.tools.families.family_templates import FAMILIES
from tests.text.tools.families.test_form_grammar import CALL
from thirdeye.server.text.templates.chat_template import ChatTemplate

URL = "/v1/chat/completions"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
WANTED = {"city": "P", "days": 3}
BODY = CHAT | {"tools": TOOLS, "max_tokens": 400}
NAMES = [name for name in FAMILIES if name in CALL]


def engine_that_says(text: str) -> FakeEngine:
    return fake_engine(says(text), max_model_len=4096)


@contextmanager
def serving(name: str) -> Iterator[Served]:
    template = ChatTemplate(FAMILIES[name], ByteTokenizer())
    state = ready_state(engine_that_says(CALL[name]), template=template, max_model_len=4096)
    with live(state) as url:
        yield Served(url, state)


@pytest.fixture(scope="module", params=NAMES)
def family(request: Any) -> Iterator[tuple[str, Served]]:
    with serving(request.param) as served:
        yield request.param, served


def test_a_call_comes_out_of_its_form(family: tuple[str, Served]) -> None:
    name, served = family
    engine = served.use(engine_that_says(CALL[name]))
    choice = served.whole(URL, BODY)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "weather",
        WANTED,
    )
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert "weather" in engine.requests[-1].grammar


def test_a_stream_says_the_same(family: tuple[str, Served]) -> None:
    name, served = family
    served.use(engine_that_says(CALL[name]))
    answer = served.post(URL, BODY | {"stream": True})
    chunks = [json.loads(x[6:]) for x in answer.text.splitlines() if x.startswith("data: {")]
    calls = [c for k in chunks for x in k["choices"] for c in x["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "weather"
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == WANTED


def test_a_round_with_a_result_goes_back_in(family: tuple[str, Served]) -> None:
    name, served = family
    served.use(engine_that_says(CALL[name]))
    message = served.whole(URL, BODY)["choices"][0]["message"]
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": "sunny",
    }
    engine = served.use(engine_that_says("Sunny."))
    served.whole(URL, BODY | {"messages": [*CHAT["messages"], message, result]})
    ids = engine.requests[-1].prompt_token_ids
    prompt = bytes(i for i in ids if i < 256).decode()
    assert "sunny" in prompt
    assert "<tool_response>" not in prompt or name in ("qwen_xml", "glm")


def test_the_other_dialects_have_it_too(family: tuple[str, Served]) -> None:
    name, served = family
    served.use(engine_that_says(CALL[name]))
    flat = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    response = served.whole("/v1/responses", {"model": "tiny", "input": "Hi", "tools": flat})
    assert json.loads(response["output"][-1]["arguments"]) == WANTED
    served.use(engine_that_says(CALL[name]))
    tools = [{"name": "weather", "input_schema": SCHEMA}]
    body = {"model": "tiny", "max_tokens": 400, "messages": CHAT["messages"], "tools": tools}
    assert served.whole("/v1/messages", body)["content"][-1]["input"] == WANTED
