"""Thoughts of an earlier answer that come back with it, by all the names that programs send."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from thirdeye.server.api.requests.content_fields import TEXT_PARTS, parse_content
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.value_readers import (
    only,
    optional_boolean,
    optional_string,
    required,
)

MAX_DETAILS = 256
_IN_CONTENT = "content"  # of a thought that was a part of the content


class SentThoughts(Strict):
    """The first of these that is there counts; what carries no text (a signature, what another
    model encrypted) says nothing here."""

    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_DETAILS)
    thinking_blocks: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_DETAILS)

    @model_validator(mode="before")
    @classmethod
    def _thoughts_apart(cls, value: Any) -> Any:
        """Of a content in parts, as Mistral has it; the place of each stays, without a text."""
        content = value.get("content") if isinstance(value, dict) else None
        if not isinstance(content, list) or not any(map(_is_thought, content)):
            return value
        blocks = [
            {"type": _IN_CONTENT, "thinking": _text_of(part, f".content[{i}]")}
            for i, part in enumerate(content)
            if _is_thought(part)
        ]
        rest = [{"type": "text", "text": ""} if _is_thought(part) else part for part in content]
        return value | {"content": rest, "thinking_blocks": value.get("thinking_blocks") or blocks}

    @property
    def thought(self) -> str:
        plain = self.reasoning_content or self.reasoning
        return (
            plain
            or _texts(self.reasoning_details, "text")
            or _texts(self.thinking_blocks, "thinking")
        )

    def unread(self, is_read: bool) -> list[str]:
        """Those that say nothing to the model. `is_read`: its template reads thoughts."""
        names = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
        if is_read and self.thought:
            return []
        in_content = any(block.get("type") == _IN_CONTENT for block in self.thinking_blocks)
        own = {"thinking_blocks": "content"} if in_content else {}
        return [own.get(name, name) for name in names if getattr(self, name)]


def unread_thoughts(messages: Iterable[object], is_read: bool) -> list[str]:
    """The paths of thoughts that reach no prompt."""
    return [
        f"messages[{i}].{name}"
        for i, message in enumerate(messages)
        if isinstance(message, SentThoughts)
        for name in message.unread(is_read)
    ]


def _is_thought(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking"


def _text_of(part: dict[str, Any], path: str) -> str:
    """A thought's text: a string, or parts that are text. That it was ended says nothing here."""
    only({"type", "thinking", "closed", "signature"}, part, path, None)
    optional_boolean(part, "closed", path)
    optional_string(part, "signature", path)
    thought = required(part, "thinking", path)
    return parse_content(thought, TEXT_PARTS, path=f"{path}.thinking")


def _texts(parts: list[dict[str, Any]], key: str) -> str:
    return "".join(text for part in parts if isinstance(text := part.get(key), str))
