"""Thinking in a stream of text: what stands between two marks in front of the answer.

    <think>\\nLet me see.\\n</think>\\n\\nHello!
           -------------              ------
             thought                  answer

Held back is only what may still be part of a mark, or white space that may be in front of one: the
marks and the white space around them belong to neither side. Thinking stands at the start of an
answer or nowhere; what looks like a mark later on is text. It knows no tokens and no tools.
"""

from thirdeye.server.text.events import Thought
from thirdeye.server.text.reasoning.answer_marks import AnswerMarks, overlap
from thirdeye.server.text.reasoning.reasoning_form import PromptState, ReasoningForm


class ThinkParser:
    """Reads one answer; what it returns is final. A cut of the text changes nothing."""

    def __init__(self, form: ReasoningForm, state: PromptState) -> None:
        self._open, self._close = form.open.rstrip(), form.close
        self._held = ""
        self._state = state
        # Of the thought or of the answer: white space is dropped there.
        self._is_at_start = state is not PromptState.CLOSED
        self._marks = AnswerMarks(form.around) if form.around else None

    @property
    def num_held(self) -> int:
        return len(self._held) + (self._marks.num_held if self._marks else 0)

    @property
    def is_thinking(self) -> bool:
        return self._state is PromptState.OPEN

    @property
    def is_over(self) -> bool:
        """Whether all that comes is the answer, as it is."""
        is_open = self._marks is not None and not self._marks.is_over
        return self._state is PromptState.CLOSED and not self._is_at_start and not is_open

    def feed(self, text: str) -> list[str | Thought]:
        self._held += text
        pieces: list[str | Thought] = []
        while self._step(pieces):
            pass
        return self._without_marks(pieces)

    def end_thinking(self) -> list[str | Thought]:
        """What comes next is the answer's, though the closing mark is missing."""
        if not self.is_thinking:
            return []
        pieces = self._rest()
        self._state, self._is_at_start = PromptState.CLOSED, True
        return pieces

    def flush(self) -> list[str | Thought]:
        """The end: what was held back is what it looks like. White space at it is dropped from a
        thought."""
        pieces = self._without_marks(self._rest())
        end = self._marks.flush() if self._marks else ""
        return [*pieces, end] if end else pieces

    def _without_marks(self, pieces: list[str | Thought]) -> list[str | Thought]:
        if self._marks is None:
            return pieces
        read = [p if isinstance(p, Thought) else self._marks.feed(p) for p in pieces]
        return [piece for piece in read if piece]

    def _rest(self) -> list[str | Thought]:
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
            num_open = overlap(thought, self._close)
            thought = thought[: len(thought) - num_open].rstrip()
            self._held = self._held[len(thought) :]
        if thought:
            pieces.append(Thought(thought))
        return bool(mark)
