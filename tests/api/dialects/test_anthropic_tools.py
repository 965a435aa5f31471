"""Anthropic's own tools: those that a caller runs are functions of a known schema, those that run
elsewhere are left out and named, or refused where nothing else could be called."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import ToolUseBlock

from tests.api.dialects.test_custom_tools import prompt_of
from tests.api.dialects.test_dialect_tools import MESSAGES, engine_of, whole
from tests.api.openai.tools import engine_that_says, state_of
from tests.api.support import Served, live
from thirdeye.server.api.anthropic.client_tools import CLIENT_TOOLS
from thirdeye.server.text.tools.form import write_call

HI = {"role": "user", "content": "Hi"}
BASH = {"type": "bash_20250124", "name": "bash"}
EDITOR = {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
OURS = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
ASKED: dict[str, Any] = {"model": "tiny", "max_tokens": 200, "messages": [HI]}
HOSTED = [
    SEARCH,
    {"type": "web_fetch_20250910", "name": "web_fetch"},
    {"type": "code_execution_20250825", "name": "code_execution"},
    {"type": "computer_20250124", "name": "computer", "display_width_px": 1},
    {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
    {"type": "mcp_toolset", "mcp_server_name": "x"},
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    state = state_of(engine_that_says("Hello!"))
    with live(state) as url:
        yield Served(url, state)


@pytest.fixture
def served(shared: Served) -> Served:
    shared.use(engine_that_says("Hello!"))
    return shared


def test_a_tool_that_the_caller_runs_is_called(served: Served) -> None:
    served.use(engine_that_says(write_call("bash", '{"command": "ls"}')))
    answer = whole(served, MESSAGES, ASKED | {"tools": [BASH, EDITOR]})
    (block,) = answer["content"]
    assert (block["name"], block["input"], answer["stop_reason"]) == (
        *("bash", {"command": "ls"}),
        "tool_use",
    )
    ToolUseBlock.model_validate(block)
    prompt = prompt_of(engine_of(served).requests[-1].prompt_token_ids)
    for word in ("restart", "str_replace_based_edit_tool", "insert_text", "view_range"):
        assert f'"{word}"' in prompt


@pytest.mark.parametrize("kind", CLIENT_TOOLS)
def test_its_schema_can_be_held(served: Served, kind: str) -> None:
    call = write_call("t", json.dumps({"command": "view", "path": "/a"}))
    served.use(engine_that_says(call))
    choice = {"type": "tool", "name": "t"}
    tools = [{"type": kind, "name": "t"}]
    answer = whole(served, MESSAGES, ASKED | {"tools": tools, "tool_choice": choice})
    assert answer["content"][0]["input"]["command"] == "view"
    assert engine_of(served).requests[-1].grammar


@pytest.mark.parametrize("tool", HOSTED, ids=lambda tool: tool["type"])
def test_one_that_runs_elsewhere_is_left_out_and_named(
    served: Served, tool: dict[str, Any]
) -> None:
    answer = served.post(MESSAGES, ASKED | {"tools": [tool, OURS]})
    assert answer.status_code == 200
    assert answer.headers["x-ignored-params"] == "tools[0]"
    prompt = prompt_of(engine_of(served).requests[-1].prompt_token_ids)
    assert '"f"' in prompt
    assert tool.get("name", "mcp") not in prompt
    alone = served.post(MESSAGES, ASKED | {"tools": [tool]})
    assert alone.status_code == 400
    message = alone.json()["error"]["message"]
    assert message.startswith("'tools[0].type' must be 'custom': this server has no")
    unused = ASKED | {"tools": [tool], "tool_choice": {"type": "none"}}
    assert served.post(MESSAGES, unused).status_code == 200


def test_what_is_wrong_is_named_at_its_place(served: Served) -> None:
    """What was left out counts in the places of the others."""
    for tools, param in (
        ([SEARCH, OURS | {"name": "a b"}], "'tools[1].name'"),
        ([SEARCH, OURS | {"strict": True, "input_schema": {"not": {}}}], "'tools[1].input_schema'"),
        ([OURS, {"type": "bash_19990101", "name": "bash"}], "'tools[1].type'"),
        ([OURS, {"type": 5}], "'tools[1].type'"),
        ([BASH | {"command": "ls"}], "'tools[0].command'"),
    ):
        answer = served.post(MESSAGES, ASKED | {"tools": tools})
        assert answer.status_code == 400
        assert param in answer.json()["error"]["message"]


def test_blocks_of_such_tools_in_a_history_are_left_out_and_named(served: Served) -> None:
    history = [
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "text", "text": "Found."},
            ],
        },
        HI,
    ]
    answer = served.post(MESSAGES, ASKED | {"messages": history})
    assert answer.status_code == 200
    assert answer.headers["x-ignored-params"] == "messages[1].content[0], messages[1].content[1]"
    assert "Found." in prompt_of(engine_of(served).requests[-1].prompt_token_ids)


def test_a_tool_that_a_search_found_is_told_by_name(served: Served) -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    found = [{"type": "tool_reference", "tool_name": "other_tool"}]
    result = {"type": "tool_result", "tool_use_id": "t", "content": found}
    messages = [HI, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    whole(served, MESSAGES, ASKED | {"messages": messages, "tools": [OURS]})
    assert "other_tool" in prompt_of(engine_of(served).requests[-1].prompt_token_ids)
