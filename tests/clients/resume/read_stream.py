"""A stream as it was read: its chunks, put together by what the API's page says of them."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ReadStream:
    """All that must be the same, whether or not the stream was resumed."""

    text: str = ""
    thought: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: dict[str, list[Any]] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    num_roles: int = 0
    num_prompts: int = 0  # chunks that tell the prompt's tokens
    counts: tuple[int, int] | None = None  # of prompt and answer
    ids: set[str] = field(default_factory=set)


def read(stream: Any) -> ReadStream:
    """Reads it to its end; its ids are one, and the answer that it sums up is what came."""
    found = ReadStream()
    with stream:
        for chunk in stream:
            found.text += chunk.text
            found.thought += chunk.thought
            found.ids.add(chunk.id)
            found.num_prompts += "prompt_token_ids" in chunk.raw
            if chunk.usage is not None:
                found.counts = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            for choice in chunk.raw.get("choices", []):
                _add(found, choice)
    answer = stream.answer()
    assert answer.text == found.text
    assert [answer.finish_reason] == found.ends
    assert len(found.ids) == 1
    found.ids = set()
    return found


def _add(found: ReadStream, choice: dict[str, Any]) -> None:
    found.token_ids += choice.get("token_ids") or []
    found.num_roles += "role" in choice.get("delta", {})
    found.num_prompts += "prompt_token_ids" in choice
    found.ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    for name, entries in (choice.get("logprobs") or {}).items():
        found.logprobs.setdefault(name, []).extend(entries or [])
