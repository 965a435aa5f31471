"""A trace: recorded or planned load as JSON lines, each a conversation and when it arrived.

    {"at": 0.0, "prompt": "Why is the sky blue?", "max_tokens": 64}
    {"at": 0.8, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}
    {"at": 1.5, "prompt_tokens": 700, "max_tokens": 128}
    {"timestamp": 2100, "input_length": 700, "output_length": 128}

`at` is in seconds. The last form is that of public traces, with milliseconds; what the trace gives
as a length is filled with words. Without arrival times a trace is a list of prompts.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from thirdeye.clients.loadtest.workload.prompts import Conversation, Turn, words

DEFAULT_MAX_TOKENS = 128


class TraceError(ValueError):
    """A line that is no request; the message names it."""


def read_trace(lines: Iterable[str], seed: int = 0) -> Iterator[Conversation]:
    """Raises TraceError for a line that is no request, or that arrives before the one above."""
    latest = 0.0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            conversation = _read(json.loads(line), number, seed)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise TraceError(f"Line {number} of the trace is no request: {error}") from None
        if conversation.at is not None:
            if conversation.at < latest:
                raise TraceError(f"Line {number} of the trace arrives before the line above it.")
            latest = conversation.at
        yield conversation


def _read(raw: Any, number: int, seed: int) -> Conversation:
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object.")
    *history, last = _messages(raw, number, seed)
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in [*history, last]):
        raise ValueError("a message must be an object with a text as its 'content'.")
    if last.get("role") != "user":
        raise ValueError("the last message must be the user's.")
    longest = _whole(raw, "max_tokens", "output_length") or DEFAULT_MAX_TOKENS
    return Conversation((Turn(last["content"], longest),), tuple(history), _arrival(raw))


def _messages(raw: dict[str, Any], number: int, seed: int) -> list[dict[str, Any]]:
    if "messages" in raw:
        return list(raw["messages"])
    if "prompt" in raw:
        return [{"role": "user", "content": raw["prompt"]}]
    length = _whole(raw, "prompt_tokens", "input_length")
    if length is None:
        raise ValueError("it has none of 'prompt', 'messages', 'prompt_tokens', 'input_length'.")
    return [{"role": "user", "content": words(length, seed, str(number))}]


def _whole(raw: dict[str, Any], *names: str) -> int | None:
    """The first of these that is there, a whole number of at least 1."""
    for name in names:
        if name in raw:
            if type(raw[name]) is not int or raw[name] < 1:
                raise ValueError(f"'{name}' must be a whole number of at least 1.")
            return int(raw[name])
    return None


def _arrival(raw: dict[str, Any]) -> float | None:
    """Seconds from `at`, or from a `timestamp` in milliseconds."""
    for name, unit in (("at", 1.0), ("timestamp", 1000.0)):
        if name in raw:
            at = float(raw[name]) / unit
            if not at >= 0:
                raise ValueError(f"'{name}' must be at least 0.")
            return at
    return None
