"""Tools in a namespace: a model has them as `namespace.name`, a caller has the two apart."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import NamespaceTool, ResponseFunctionToolCall

from tests.api.dialects.test_custom_tools import prompt_of
from tests.api.dialects.test_dialect_tools import RESPONSES, engine_of, events, whole, without_ids
from tests.api.openai.tools import engine_that_says, state_of
from tests.api.support import Served, live
from thirdeye.server.text.tools.form import write_call

OPEN = {"type": "function", "name": "open", "description": "Opens one.", "parameters": {}}
NOTE = {"type": "custom", "name": "note"}
FILES = {"type": "namespace", "name": "files", "description": "About files.", "tools": [OPEN, NOTE]}
ASKED: dict[str, Any] = {"model": "tiny", "input": "Hi", "tools": [OPEN, FILES]}
CALL = write_call("files.open", "{}")


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    state = state_of(engine_that_says(CALL))
    with live(state) as url:
        yield Served(url, state)


@pytest.fixture
def served(shared: Served) -> Served:
    shared.use(engine_that_says(CALL))
    return shared


def test_a_call_names_both(served: Served) -> None:
    answer = whole(served, RESPONSES, ASKED)
    assert without_ids(answer["output"]) == [
        {"type": "function_call", "name": "open", "namespace": "files", "arguments": "{}",
         "status": "completed"}
    ]  # fmt: skip
    ResponseFunctionToolCall.model_validate(answer["output"][0], strict=True)
    shown = answer["tools"][1]
    NamespaceTool.model_validate(shown)
    assert [tool["name"] for tool in shown["tools"]] == ["open", "note"]


def test_the_same_name_outside_is_another_tool(served: Served) -> None:
    served.use(engine_that_says(write_call("open", "{}")))
    (item,) = whole(served, RESPONSES, ASKED)["output"]
    assert "namespace" not in item


def test_a_stream_names_both(served: Served) -> None:
    found = events(served, RESPONSES, ASKED)
    begun = next(e["item"] for e in found if e["type"] == "response.output_item.added")
    assert (begun["namespace"], begun["name"]) == ("files", "open")
    done = next(e for e in found if e["type"] == "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("open", "{}")


def test_a_custom_tool_may_be_in_one(served: Served) -> None:
    served.use(engine_that_says(write_call("files.note", '{"input": "a"}')))
    (item,) = whole(served, RESPONSES, ASKED)["output"]
    assert (item["type"], item["namespace"], item["name"], item["input"]) == (
        *("custom_tool_call", "files", "note"),
        "a",
    )


def test_the_model_is_told_of_the_namespace_once(served: Served) -> None:
    whole(served, RESPONSES, ASKED)
    prompt = prompt_of(engine_of(served).requests[-1].prompt_token_ids)
    assert prompt.count("About files.") == 1
    assert '"files.open"' in prompt
    assert '"files.note"' in prompt


def test_a_call_comes_back_as_history(served: Served) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "open", "namespace": "files",
            "arguments": "{}"}  # fmt: skip
    output = {"type": "function_call_output", "call_id": "c", "output": "ok", "namespace": "files"}
    whole(served, RESPONSES, ASKED | {"input": [{"role": "user", "content": "Hi"}, call, output]})
    prompt = prompt_of(engine_of(served).requests[-1].prompt_token_ids)
    assert prompt.count('"files.open"') == 2


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([FILES, FILES], "tools[1].tools[0].name"),
        ([FILES | {"name": "a b"}], "tools[0].name"),
        ([FILES | {"name": "", "tools": []}], "tools[0].name"),
        ([FILES | {"tools": [OPEN | {"name": ""}]}], "tools[0].tools[0].name"),
        ([FILES | {"tools": [NOTE | {"name": ""}]}], "tools[0].tools[0].name"),
        ([FILES | {"name": "x" * 128}], "tools[0].tools[0].name"),
        ([FILES | {"tools": [OPEN, {"type": "web_search"}]}], "tools[0].tools[1].type"),
        ([FILES | {"tools": [OPEN | {"parameter": {}}]}], "tools[0].tools[0].parameter"),
        ([FILES | {"tools": [OPEN | {"strict": True, "parameters": {"not": {}}}]}],
         "tools[0].tools[0].parameters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_at_its_place(
    served: Served, tools: list[dict[str, Any]], param: str
) -> None:
    answer = served.post(RESPONSES, ASKED | {"tools": tools})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_such_tools_have_besides_is_a_hint(served: Served) -> None:
    more = {"defer_loading": True, "output_schema": {"type": "object"}, "async": True}
    one = OPEN | more | {"allowed_callers": ["programmatic"]}
    answer = served.post(RESPONSES, ASKED | {"tools": [FILES | {"tools": [one]}]})
    assert answer.status_code == 200
    names = "allowed_callers, defer_loading, async, output_schema"
    assert set(answer.headers["x-ignored-params"].split(", ")) == set(names.split(", "))
    neutral = {"defer_loading": False, "async": False, "allowed_callers": ["direct"]}
    assert "x-ignored-params" not in served.post(
        RESPONSES, ASKED | {"tools": [OPEN | neutral]}
    ).headers  # fmt: skip
