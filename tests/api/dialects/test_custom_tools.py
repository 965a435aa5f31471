"""Custom tools of the Responses dialect: what a model is told, and calls whose input is text."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from openai.types.responses import (
    ResponseCustomToolCall,
    ResponseCustomToolCallInputDeltaEvent,
    ResponseCustomToolCallInputDoneEvent,
)

from tests.api.dialects.test_dialect_tools import RESPONSES, engine_of, events, whole, without_ids
from tests.api.openai.tools import engine_that_says
from tests.api.support import Served
from thirdeye.server.text.tools.form import write_call
from thirdeye.server.text.tools.text_inputs import InputReader

FORM = {"type": "grammar", "syntax": "regex", "definition": r'[a-z "\n]+'}
PATCH = {"type": "custom", "name": "patch", "description": "Changes.", "format": FORM}
ASKED: dict[str, Any] = {"model": "tiny", "input": "Hi", "tools": [PATCH]}
TEXT = 'a "b"\nc'
CALL = write_call("patch", json.dumps({"input": TEXT}))


@pytest.fixture
def served(tool_server: Served) -> Served:
    tool_server.use(engine_that_says(CALL))
    return tool_server


def prompt_of(token_ids: Sequence[int]) -> str:
    return bytes(i for i in token_ids if i < 256).decode()


def test_the_input_is_text(served: Served) -> None:
    (item,) = whole(served, RESPONSES, ASKED)["output"]
    assert without_ids([item]) == [
        {"type": "custom_tool_call", "name": "patch", "input": TEXT, "status": "completed"}
    ]
    ResponseCustomToolCall.model_validate(item, strict=True)


@pytest.mark.parametrize("step", [1, 500])
def test_a_stream_tells_it_piece_by_piece(served: Served, step: int) -> None:
    served.use(engine_that_says(CALL, tokens_per_step=step))
    found = events(served, RESPONSES, ASKED)
    kind = "response.custom_tool_call_input"
    deltas = [event for event in found if event["type"] == f"{kind}.delta"]
    (done,) = [event for event in found if event["type"] == f"{kind}.done"]
    assert "".join(event["delta"] for event in deltas) == done["input"] == TEXT
    assert len(deltas) == len(TEXT) or step > 1
    ResponseCustomToolCallInputDeltaEvent.model_validate(deltas[0], strict=True)
    ResponseCustomToolCallInputDoneEvent.model_validate(done, strict=True)
    assert found[-1]["response"]["output"][0]["input"] == TEXT


def test_the_form_is_held_and_told(served: Served) -> None:
    served.use(engine_that_says(CALL))
    whole(served, RESPONSES, ASKED)
    (asked,) = engine_of(served).requests
    assert "this regular expression matches" in prompt_of(asked.prompt_token_ids)
    follower = LLMatcher(LLTokenizer("byte"), asked.grammar)
    assert follower.validate_tokens(list(CALL.encode())) == len(CALL)
    other = write_call("patch", json.dumps({"input": "A"}))
    assert follower.validate_tokens(list(other.encode())) == other.index("A")


def test_a_lark_grammar_is_held_and_told(served: Served) -> None:
    definition = 'start: "a" /[^\\n]/+ LF\n%import common.LF'
    form = {"type": "grammar", "syntax": "lark", "definition": definition}
    engine = served.use(engine_that_says(CALL))
    answer = served.post(RESPONSES, ASKED | {"tools": [PATCH | {"format": form}]})
    assert "x-ignored-params" not in answer.headers
    assert "text of this grammar" in prompt_of(engine.requests[0].prompt_token_ids)
    follower = LLMatcher(LLTokenizer("byte"), engine.requests[0].grammar)
    good, bad = (write_call("patch", json.dumps({"input": text})) for text in ('a"b"\n', "b"))
    assert follower.validate_tokens(list(good.encode())) == len(good)
    assert follower.validate_tokens(list(bad.encode())) == bad.index('b"}')


@pytest.mark.parametrize(
    ("definition", "status"), [("start: T\nT: /a/ & ~/b/", 200), ("start: %%", 400)]
)
def test_a_grammar_that_cannot_be_said_is_named_and_a_bad_one_refused(
    served: Served, definition: str, status: int
) -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": definition}
    served.use(engine_that_says("Hi"))
    answer = served.post(RESPONSES, ASKED | {"tools": [PATCH | {"format": form}]})
    assert answer.status_code == status
    said = answer.json()["error"]["param"] if status == 400 else answer.headers["x-ignored-params"]
    assert said == "tools[0].format"


def test_a_call_comes_back_as_history(served: Served) -> None:
    served.use(engine_that_says("Done."))
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": TEXT}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    body = ASKED | {"input": [{"role": "user", "content": "Hi"}, call, output]}
    whole(served, RESPONSES, body)
    (asked,) = engine_of(served).requests
    prompt = prompt_of(asked.prompt_token_ids)
    assert CALL.partition("\n")[2].partition("\n")[0] in prompt
    assert "ok" in prompt


@given(st.text(), st.lists(st.integers(0, 400)), st.booleans())
def test_any_cut_of_the_arguments_gives_the_same_input(
    text: str, cuts: list[int], is_ascii: bool
) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=is_ascii)
    ends = sorted({min(cut, len(arguments)) for cut in cuts} | {len(arguments)})
    reader, read, at = InputReader(), "", 0
    for end in ends:
        read += reader.feed(arguments[at:end])
        at = end
    assert read == text
