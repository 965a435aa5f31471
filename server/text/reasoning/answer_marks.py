"""Marks around an answer, as Granite 3.3 writes them behind its thinking: they are no part of it.

    <response>Hello!</response>  ->  Hello!

What is not begun by the first mark has neither. Held back is what may still be part of a mark.
"""


class AnswerMarks:
    """Reads the answer alone; what it returns is final. A cut of the text changes nothing."""

    def __init__(self, marks: tuple[str, str]) -> None:
        self._open, self._close = marks
        self._held = ""
        self._is_begun = False
        self.is_over = False

    @property
    def num_held(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        if self.is_over:
            return text
        self._held += text
        if not self._is_begun:
            begun = self._held.lstrip()
            if self._open.startswith(begun[: len(self._open)]) and len(begun) < len(self._open):
                return ""
            if not begun.startswith(self._open):
                return self._rest()
            self._held, self._is_begun = begun.removeprefix(self._open), True
        body, mark, behind = self._held.partition(self._close)
        if mark:
            self.is_over, self._held = True, ""
            return body + behind
        num_open = overlap(body, self._close)
        self._held = body[len(body) - num_open :]
        return body[: len(body) - num_open]

    def flush(self) -> str:
        """The end: what was held back is what it looks like."""
        return self._rest()

    def _rest(self) -> str:
        rest, self._held, self.is_over = self._held, "", True
        return rest


def overlap(text: str, mark: str) -> int:
    """How much of `mark`'s beginning stands at the end of `text`."""
    sizes = range(min(len(text), len(mark) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(mark[:size])), 0)
