"""Bodies for `/v1/responses`, in the shapes that Codex CLI and the Agents SDK send."""

from typing import Any

from tests.api.requests.agents.agent_tools import flat_functions


def message(role: str, words: str, **fields: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    part = {"type": kind, "text": words}
    return {"type": "message", "role": role, "content": [part]} | fields


AGENTS = {  # what Codex CLI 0.171 has beside its functions
    "type": "namespace",
    "name": "multi_agent",
    "description": "To have work done by others.",
    "tools": [tool | {"strict": False} for tool in flat_functions()[:2]],
}
PERMISSIONS = message("developer", "<permissions>The sandbox may write here.</permissions>")
TASK = message("user", "Why does the build fail?")
HISTORY = [
    PERMISSIONS,
    message("user", "<environment_context><cwd>/home/me</cwd></environment_context>"),
    TASK,
    {
        "type": "reasoning",
        "id": "rs_1",
        "content": None,
        "encrypted_content": "Z0FBQUE=",
        "summary": [{"type": "summary_text", "text": "The log tells."}],
    },
    message("assistant", "I look at the log.", phase="commentary", id="msg_1"),
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "run",
        "arguments": '{"command":"make"}',
    },
    {"type": "function_call_output", "call_id": "call_1", "output": "make: *** no rule"},
    {
        "type": "function_call",
        "call_id": "call_2",
        "name": "read_file",
        "arguments": '{"file_path":"Makefile"}',
        "status": "completed",
    },
    {
        "type": "function_call_output",
        "call_id": "call_2",
        "output": [{"type": "input_text", "text": "all:"}],
    },
]
TURN: dict[str, Any] = {
    "model": "tiny",
    "instructions": "You are an agent that works on code in a terminal.",
    "input": HISTORY,
    "tools": flat_functions(strict=False),
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199-session",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-installation": "i"},
}
REVIEW_SCHEMA = {
    "type": "object",
    "properties": {"findings": {"type": "array", "items": {"type": "string"}}},
    "required": ["findings"],
    "additionalProperties": False,
}
REVIEW = {"type": "json_schema", "name": "review", "strict": True, "schema": REVIEW_SCHEMA}
RESPONSES_AGENTS: dict[str, dict[str, Any]] = {
    "codex: tools in a namespace": TURN
    | {
        "tools": [*flat_functions(strict=False), AGENTS],
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "input": [
            TASK,
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "run",
                "namespace": "multi_agent",
                "arguments": "{}",
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
        ],
    },
    "codex: a turn with results": TURN,
    "codex: a model that it does not know": TURN
    | {"reasoning": None, "include": [], "text": None, "service_tier": None},
    "codex: a review in a form": TURN
    | {"text": {"format": REVIEW, "verbosity": "medium"}, "tools": [], "service_tier": "priority"},
    "agents sdk: the first turn": {
        "model": "tiny",
        "instructions": "Answer with a tool.",
        "input": [{"role": "user", "content": "Why does the build fail?"}],
        "tools": flat_functions(strict=None),
        "include": [],
        "stream": False,
        "truncation": "auto",
        "store": True,
        "max_output_tokens": 100_000,
        "metadata": {"trace": "t"},
        "safety_identifier": "u",
    },
}
