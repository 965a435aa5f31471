"""A conversation on disk: JSON that a person can read, for `/save` and `/load` of the chat."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class NoConversation(ValueError):
    """A file that holds none; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """`messages` are without the system prompt."""

    messages: list[dict[str, str]] = field(default_factory=list)
    system: str | None = None
    model: str | None = None

    def write(self, path: Path) -> None:
        """Raises FileExistsError rather than replace a file, and OSError."""
        with path.open("x", encoding="utf-8") as file:
            json.dump(asdict(self), file, ensure_ascii=False, indent=1)
            file.write("\n")

    @classmethod
    def read(cls, path: Path) -> "SavedConversation":
        """Raises NoConversation, OSError."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            raise NoConversation(f"{path} is not JSON.") from None
        if not isinstance(raw, dict) or not _are_messages(raw.get("messages")):
            raise NoConversation(f"{path} holds no conversation.")
        system, model = (_text(raw.get(name)) for name in ("system", "model"))
        messages = [{"role": m["role"], "content": m["content"]} for m in raw["messages"]]
        return cls(messages, system, model)


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict)
        and message.get("role") in ("user", "assistant")
        and isinstance(message.get("content"), str)
        for message in value
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
