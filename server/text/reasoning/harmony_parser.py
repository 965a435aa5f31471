"""Answers of gpt-oss: messages in channels, one of them the answer.

    <|channel|>analysis<|message|>Let me see.<|end|>                      a thought
    <|start|>assistant<|channel|>commentary to=functions.f
        <|constrain|>json<|message|>{"a": 1}<|call|>                      a call
    <|start|>assistant<|channel|>final<|message|>Hello!<|return|>         the answer

`<|start|>assistant` of the first message is the prompt's. Text that stands in no message is the
answer's: a prompt may end inside of one.
"""

import re
from enum import Enum

from thirdeye.server.text.events import Piece, Thought, ToolCallDelta
from thirdeye.server.text.reasoning.reasoning_form import PromptState

_MESSAGE = "<|message|>"
_HEADS = ("<|channel|>", "<|start|>")  # what a message begins with
_ENDS = ("<|end|>", "<|call|>", "<|return|>", *_HEADS)  # the last two: its end was forgotten
_END = re.compile("|".join(map(re.escape, _ENDS)))
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


class _Part(Enum):
    HEAD = "head"
    CONTENT = "content"
    THOUGHT = "thought"
    CALL = "call"


class HarmonyParser:
    """Reads one answer; what it returns is final. A cut of the text changes nothing."""

    def __init__(self, state: PromptState, *, parse_calls: bool) -> None:
        self._parse_calls = parse_calls
        self._part = _Part.THOUGHT if state is PromptState.OPEN else _Part.HEAD
        self._held = ""
        self.num_calls = 0

    @property
    def is_over(self) -> bool:
        """Never: another message may always come."""
        return False

    @property
    def num_held(self) -> int:
        return len(self._held)

    @property
    def is_thinking(self) -> bool:
        return self._part is _Part.THOUGHT

    def feed(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while self._head(pieces) if self._part is _Part.HEAD else self._body(pieces):
            pass
        return pieces

    def end_thinking(self) -> list[Piece]:
        """Nothing: here a call has a head of its own, which ends whatever was before it."""
        return []

    def flush(self) -> list[Piece]:
        """The end. A head without a message says nothing."""
        held, self._held = self._held, ""
        return self._news(held) if self._part is not _Part.HEAD else []

    def _head(self, pieces: list[Piece]) -> bool:
        if not any(h.startswith(self._held[: len(h)]) for h in _HEADS):
            self._part = _Part.CONTENT
            return True
        head, mark, rest = self._held.partition(_MESSAGE)
        if not mark:
            return False
        self._held = rest
        recipient = _RECIPIENT.search(head)
        if recipient and self._parse_calls:
            self._part = _Part.CALL
            self.num_calls += 1
            name = recipient[1].removeprefix("functions.")
            pieces.append(ToolCallDelta(self.num_calls - 1, name))
        else:
            self._part = _Part.THOUGHT if "<|channel|>analysis" in head else _Part.CONTENT
        return True

    def _body(self, pieces: list[Piece]) -> bool:
        end = _END.search(self._held)
        at = end.start() if end else len(self._held) - _num_open(self._held)
        pieces += self._news(self._held[:at])
        self._held = self._held[at:]
        if end is None:
            return False
        self._part = _Part.HEAD
        if end[0] not in _HEADS:
            self._held = self._held.removeprefix(end[0])
        return bool(self._held)

    def _news(self, text: str) -> list[Piece]:
        if not text:
            return []
        if self._part is _Part.THOUGHT:
            return [Thought(text)]
        is_call = self._part is _Part.CALL
        return [ToolCallDelta(self.num_calls - 1, None, text) if is_call else text]


def _num_open(text: str) -> int:
    """Characters at the end of `text` that may begin the end of a message."""
    at = text.rfind("<")
    is_open = at >= 0 and any(end.startswith(text[at:]) for end in _ENDS)
    return len(text) - at if is_open else 0
