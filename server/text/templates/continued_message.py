"""Where a message ends that the answer goes on with: a mark in its text finds the place in what the
template made of it."""

from typing import Any

from thirdeye.server.text.templates.special_tokens import MARK

_CUT = MARK * 3  # marks of messages stand at most two in a row


def mark_end(messages: list[dict[str, Any]]) -> str | None:
    """Put a mark behind the last message's text, and return the white space now behind the mark;
    None if that is no text of an assistant's."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    if last.get("role") != "assistant" or not isinstance(content, str):
        return None
    text = content.rstrip()
    trailing = content[len(text) :]
    last["content"] = f"{text}{_CUT}{trailing} "
    return trailing


def cut_at_mark(rendered: str, trailing: str) -> str | None:
    """Up to the end of the last message; its trailing white space belongs to it if it survived.
    None if the mark did not.

    The space that `mark_end` added tells: a template that trims has taken both.
    """
    before, mark, after = rendered.rpartition(_CUT)
    if not mark:
        return None
    return before + trailing if after.startswith(trailing + " ") else before
