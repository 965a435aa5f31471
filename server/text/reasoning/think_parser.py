"""Thinking in a stream of text: what stands between two marks in front of the answer.

    <think>\\nLet me see.\\n</think>\\n\\nHello!
           -------------              ------
             thought                  answer

Held back is only what may still be part of a mark, or white space that may be in front of one: the
marks and the white space around them belong to neither side. Thinking stands at the start of an
answer or nowhere; what looks like a mark later on is text. It knows no tokens and no tools.
"""

from thirdeye.server.text.events import Thought
from thirdeye.server.text.reasoning.reasoning_form import PromptState, ReasoningForm


class ThinkParser:
    """Reads one answer; what it returns is final. A cut of the text changes nothing."""

    def __init__(self, form: ReasoningForm, state: PromptState) -> None:
        self._open, self._close = form.open.rstrip(), form.close
        self._held = ""
        self._state = state
        # Of the thought or of the answer: white space is dropped there.
        self._is_at_start = state is not PromptState.CLOSED

    @property
    def num_held(self) -> int:
        return len(self._held)

    @property
    def is_thinking(self) -> bool:
        return self._state is PromptState.OPEN

    @property
    def is_over(self) -> bool:
        """Whether all that comes is the answer, as it is."""
        return self._state is PromptState.CLOSED and not self._is_at_start

    def feed(self, text: str) -> list[str | Thought]:
        self._held += text
        pieces: list[str | Thought] = []
        while self._step(pieces):
            pass
        return pieces

    def end_thinking(self) -> list[str | Thought]:
        """What comes next is the answer's, though the closing mark is missing."""
        if not self.is_thinking:
            return []
        pieces = self.flush()
        self._state, self._is_at_start = PromptState.CLOSED, True
        return pieces

    def flush(self) -> list[str | Thought]:
        """The end: what was held back is what it looks like. White space at it is dropped from a
        thought."""
        held, self._held = self._held, ""
        if self._state is PromptState.OPEN:
            held = held.rstrip()
            return [Thought(held)] if held else []
        return [held] if held else []

    def _step(self, pieces: list[str | Thought]) -> bool:
        """Read on in one state; whether another has begun."""
        if self._state is PromptState.UNDECIDED:
            return self._decide()
        if self._state is PromptState.OPEN:
            return self._think(pieces)
        if self._is_at_start:
            self._held = self._held.lstrip()
            self._is_at_start = not self._held
        if self._held:
            pieces.append(self._held)
            self._held = ""
        return False

    def _decide(self) -> bool:
        said = self._held.lstrip()
        if said.startswith(self._open):
            self._held, self._state = said.removeprefix(self._open), PromptState.OPEN
            return True
        if self._open.startswith(said):
            return False
        self._state, self._is_at_start = PromptState.CLOSED, False
        return True

    def _think(self, pieces: list[str | Thought]) -> bool:
        if self._is_at_start:
            self._held = self._held.lstrip()
            self._is_at_start = not self._held
        thought, mark, rest = self._held.partition(self._close)
        if mark:
            self._held, self._state, self._is_at_start = rest, PromptState.CLOSED, True
            thought = thought.rstrip()
        else:
            num_open = _overlap(thought, self._close)
            thought = thought[: len(thought) - num_open].rstrip()
            self._held = self._held[len(thought) :]
        if thought:
            pieces.append(Thought(thought))
        return bool(mark)


def _overlap(text: str, mark: str) -> int:
    """How much of `mark`'s beginning stands at the end of `text`."""
    sizes = range(min(len(text), len(mark) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(mark[:size])), 0)
