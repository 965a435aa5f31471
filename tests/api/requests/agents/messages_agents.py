"""Bodies for `/v1/messages`, in the shapes that Claude Code sends."""

from typing import Any

from tests.api.requests.agents.agent_tools import input_tools

CACHED = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words} | fields


SYSTEM = [
    text("x-billing: version=2.1; entry=cli;"),
    text("You are an agent that works on code in a terminal.", **CACHED),
    text("# Rules\nRead a file before you change it.\n# Place\nLinux, /home/me/project", **HOUR),
]
TASK = {
    "role": "user",
    "content": [
        text("<reminder>The folder has a file of notes.</reminder>"),
        text("Why does the build fail?", **CACHED),
    ],
}
CALLS = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "The log tells.", "signature": "c2lnbmF0dXJl"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        text("I look at the log."),
        {"type": "tool_use", "id": "toolu_1", "name": "run", "input": {"command": "make"}},
        {
            "type": "tool_use",
            "id": "toolu_2",
            "name": "read_file",
            "input": {"file_path": "Makefile"},
            "caller": {"type": "direct"},
        },
    ],
}
RESULTS = {
    "role": "user",
    "content": [
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "is_error": True,
            "content": [text("make: *** no rule"), text("(exit 2)")],
        },
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "all:\n", **CACHED},
        text("<reminder>Go on.</reminder>"),
    ],
}
TURN: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "system": SYSTEM,
    "messages": [TASK, CALLS, RESULTS],
    "tools": input_tools(eager_input_streaming=True),
    "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
    "max_tokens": 32000,
    "temperature": 1,
    "thinking": {"type": "enabled", "budget_tokens": 31999},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stream": True,
}
TITLE_SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
MESSAGES_AGENTS: dict[str, dict[str, Any]] = {
    "claude code: a turn with results": TURN,
    "claude code: thinking as it sees fit": TURN
    | {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}, "speed": "fast"},
    "claude code: deferred tools": TURN
    | {
        "tools": input_tools(defer_loading=True, input_examples=[{}], **CACHED),
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    },
    "claude code: the first request, for the quota": {
        "model": "claude-haiku-4-5",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "quota"}],
        "metadata": {"user_id": "user_1"},
    },
    "claude code: a title": {
        "model": "claude-haiku-4-5",
        "max_tokens": 32000,
        "messages": [{"role": "user", "content": [text("Why does the build fail?")]}],
        "system": [text("Write a title of a few words.")],
        "tools": [],
        "metadata": {"user_id": "user_1"},
        "output_config": {"format": {"type": "json_schema", "schema": TITLE_SCHEMA}},
        "thinking": {"type": "disabled"},
        "stream": True,
    },
    "claude code: a summary of what was said": TURN
    | {"tools": [], "messages": [TASK, CALLS, RESULTS, {"role": "user", "content": "Sum it up."}]},
}
COUNTED = {key: TURN[key] for key in ("model", "system", "messages", "tools", "thinking")}
