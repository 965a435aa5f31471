"""Thoughts of an earlier answer that come back with it, by all the names that programs send."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from thirdeye.server.api.requests.strict_model import Strict

MAX_DETAILS = 256


class SentThoughts(Strict):
    """The first of these that is there counts; what carries no text (a signature, what another
    model encrypted) says nothing here."""

    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_DETAILS)
    thinking_blocks: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_DETAILS)

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
        return [] if is_read and self.thought else [name for name in names if getattr(self, name)]


def unread_thoughts(messages: Iterable[object], is_read: bool) -> list[str]:
    """The paths of thoughts that reach no prompt."""
    return [
        f"messages[{i}].{name}"
        for i, message in enumerate(messages)
        if isinstance(message, SentThoughts)
        for name in message.unread(is_read)
    ]


def _texts(parts: list[dict[str, Any]], key: str) -> str:
    return "".join(text for part in parts if isinstance(text := part.get(key), str))
