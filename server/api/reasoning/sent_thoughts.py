"""Thoughts of an earlier answer that come back with it, by all the names that programs send."""

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


def _texts(parts: list[dict[str, Any]], key: str) -> str:
    return "".join(text for part in parts if isinstance(text := part.get(key), str))
