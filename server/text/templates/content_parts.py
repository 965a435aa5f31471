"""Contents as lists of parts, for templates that read them so."""

from typing import Any

THOUGHT_NAMES = frozenset({"reasoning_content", "reasoning", "thinking"})  # in templates' messages


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    """With its text as the one part of a list."""
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return message | {"content": [{"type": "text", "text": content}]}


def with_thought_part(message: dict[str, Any]) -> dict[str, Any]:
    """With its thought as a part in front of its text."""
    rest = {key: value for key, value in message.items() if key not in THOUGHT_NAMES}
    if len(rest) == len(message):
        return message
    texts = [{"type": "text", "text": rest["content"]}] if rest.get("content") else []
    return rest | {"content": [{"type": "thinking", "thinking": message["thinking"]}, *texts]}
