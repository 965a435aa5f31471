"""What readers of arguments share that write JSON from another notation."""

from abc import ABC, abstractmethod
from collections.abc import Generator

Reading = Generator[None, str, None]  # takes a character each time it is resumed


class WrittenReader(ABC):
    """A coroutine that reads, and the JSON it has written."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self.is_done = False
        self._reading = self._read()
        next(self._reading)

    def feed(self, char: str) -> str:
        try:
            self._reading.send(char)
        except StopIteration:
            self.is_done = True
        text = "".join(self._out)
        self._out.clear()
        return text

    @abstractmethod
    def _read(self) -> Reading:
        """From the first character of the arguments to their last."""

    def _write(self, text: str) -> None:
        self._out.append(text)

    def _until(self, *marks: str) -> Generator[None, str, tuple[str, str]]:
        """The text up to the first of the marks, and which it was."""
        text = ""
        while True:
            text += yield
            for mark in marks:
                if text.endswith(mark):
                    return text[: -len(mark)], mark
