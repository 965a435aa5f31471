"""Bodies for `/v1/chat/completions`, in the shapes of agents of many makers.

Each is written from what its program sends over the API: parts with `cache_control`, histories
with thoughts and marks of libraries, limits above any context.
"""

from typing import Any

from tests.api.requests.agents.agent_tools import functions

USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words} | fields


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | fields


def call(number: int = 1, name: str = "run", **fields: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": '{"command":"make"}'}
    return {"id": f"call_{number}", "type": "function", "function": function} | fields


def result(number: int = 1, content: Any = "make: *** no rule", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content} | fields


SYSTEM = message("system", "You are an agent that works on code.")
TASK = message("user", "Why does the build fail?")
CACHED_SYSTEM = message("system", [text("You are an agent that works on code.", **CACHED)])
CACHED_TASK = message(
    "user", [text("<task>Mend it.</task>"), text("<environment>Linux</environment>", **CACHED)]
)
CALLED = message("assistant", "", tool_calls=[call()])
DONE = [SYSTEM, TASK, CALLED, result()]
# What a library's own object of an answer becomes when it is appended to the messages.
DUMPED = message(
    "assistant",
    None,
    refusal=None,
    annotations=[],
    audio=None,
    function_call=None,
    tool_calls=[call(index=0)],
    reasoning_content="The log tells.",
    thinking_blocks=[{"type": "thinking", "thinking": "The log tells.", "signature": "s"}],
    provider_specific_fields={"refusal": None},
)
HOLES = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo|>", "\n\n"]

_AGENTS: dict[str, dict[str, Any]] = {
    "cline: text and parts": USAGE
    | {"temperature": 0, "messages": [CACHED_SYSTEM, CACHED_TASK], "reasoning_effort": "medium"},
    "cline: tools": USAGE
    | {
        "messages": [*DONE, message("user", [text("Go on.")])],
        "tools": functions(strict=False),
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "max_completion_tokens": 128_000,
    },
    "kilo and roo: over a router's fields": USAGE
    | {
        "messages": [
            CACHED_SYSTEM,
            CACHED_TASK,
            CALLED
            | {
                "reasoning": "The log tells.",
                "reasoning_details": [{"type": "reasoning.text", "text": "x", "index": 0}],
            },
            result(content=[text("make: *** no rule", **CACHED)]),
        ],
        "tools": functions(),
        "max_tokens": 64_000,
        "reasoning": {"effort": "medium", "exclude": False},
        "provider": {"data_collection": "deny"},
        "usage": {"include": True},
        "parallel_tool_calls": True,
    },
    "aider: edits as text": {
        "messages": [
            CACHED_SYSTEM,
            TASK,
            message("assistant", "Ok."),
            message("user", [text("Mend it.", **CACHED)]),
        ],
        "temperature": 0,
        "stream": True,
        "user": "",
    },
    "aider: a commit message": {"messages": [SYSTEM, TASK], "temperature": 0, "stream": False},
    "opencode: a turn with thoughts": USAGE
    | {
        "messages": [
            *DONE[:2],
            CALLED | {"reasoning_content": "The log tells."},
            result(name="run"),
        ],
        "tools": functions(),
        "tool_choice": "auto",
        "max_tokens": 32_000,
        "temperature": 0.55,
        "top_p": 1,
    },
    "opencode: a title": USAGE | {"messages": [SYSTEM, TASK], "max_tokens": 32_000},
    "continue: chat": USAGE
    | {
        "messages": [SYSTEM, message("user", [text("Why does the build fail?")])],
        "tools": functions(),
        "parallel_tool_calls": False,
        "max_tokens": 4096,
        "stop": ["a", "b", "c", "d", "e", "f", "g", "h"],
    },
    "continue: an edit with a prediction": {
        "messages": [TASK],
        "stream": True,
        "max_tokens": 4096,
        "prediction": {"type": "content", "content": "all:\n"},
    },
    "zed: a thread": USAGE
    | {
        "messages": [
            message("system", "You work in an editor."),
            message("user", [text("Why?"), text("<context>Makefile</context>")]),
            {"role": "assistant", "content": None, "tool_calls": [call(), call(2, "read_file")]},
            result(1, [text("make: *** no rule")]),
            result(2, ""),
        ],
        "tools": functions(),
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "max_completion_tokens": 32_768,
        "stop": [],
        "temperature": 1.0,
        "prompt_cache_key": "thread",
        "reasoning_effort": None,
    },
    "openhands: over a library": {
        "messages": [
            CACHED_SYSTEM,
            CACHED_TASK,
            DUMPED,
            result(content=[text("make: *** no rule")], name="run", **CACHED),
        ],
        "tools": functions(),
        "temperature": 0.0,
        "top_p": 1.0,
        "max_completion_tokens": 8192,
        "metadata": {"trace": "t"},
    },
    "goose: a turn": USAGE
    | {
        "messages": [*DONE, message("assistant", "It has no rule."), TASK],
        "tools": functions(),
        "max_tokens": 16_384,
        "temperature": 0.7,
    },
    "qwen code: a turn": USAGE
    | {
        "messages": [message("system", [text("You are an agent.", **CACHED)]), *DONE[1:]],
        "tools": [*functions()[:-1], functions()[-1] | CACHED],
        "metadata": {"sessionId": "s", "promptId": "p"},
        "vl_high_resolution_images": True,
        "max_tokens": 65_536,
    },
    "copilot: a model of one's own": USAGE
    | {
        "messages": [SYSTEM, *DONE[1:], message("user", "Go on.")],
        "tools": functions(),
        "n": 1,
        "top_p": 1,
        "temperature": 0.1,
        "max_tokens": 16_384,
        "intent": False,
        "thinking_budget": 4000,
    },
    "crush: a turn": USAGE
    | {"messages": DONE, "tools": functions(), "max_tokens": 20_000, "reasoning_effort": "low"},
    "open webui: a title": {
        "messages": [TASK],
        "stream": False,
        "max_completion_tokens": 1000,
        "metadata": None,
    },
}
CHAT_AGENTS = {name: {"model": "tiny"} | body for name, body in _AGENTS.items()}
HOLE: dict[str, Any] = {  # Continue's autocomplete writes the model's own marks into the prompt
    "model": "tiny",
    "prompt": "<|fim_prefix|>all:\n<|fim_suffix|>\nclean:<|fim_middle|>",
    "stream": True,
    "max_tokens": 4096,
    "temperature": 0.01,
    "stop": [*HOLES, "\r\n\r\n", "/src/", "#- coding: utf-8", "```", "t."],
}
