"""Tool calls in a stream of text: what is content, which call begins, what its arguments are.

    Let me see. <tool_call>\\n{"name": "f", "arguments": {"a": 1}}\\n</tool_call>
    ----------- ---------------------------------------- --------------------
    content     head: held until it is sure    arguments tail: dropped

One pass over the characters and one of three states (content, a frame, arguments); each character
is looked at a bounded number of times, whatever the text says, and nothing of it is evaluated. Held
back is only what may still be part of a call's frame; arguments are sent as they come. Nothing is
lost: what begins like a call and is none comes out as content, tag and all. White space around the
tags belongs to the frame, except in front of the first call.

It reads any text, not only what the grammar lets a model write. It does not know which tools there
are, and no tokens: it is fed text.
"""

from collections.abc import Callable

from thirdeye.server.text.events import Piece, ToolCallDelta
from thirdeye.server.text.tools.form import CLOSE, OPEN
from thirdeye.server.text.tools.frame import Frame, ObjectEnd

_HEAD = ' { "name" : "*" , "arguments" : {'
_TAIL = f" }} {CLOSE}"
_NEXT = f" {OPEN}"


class ToolCallParser:
    """Reads one answer. What it returns is final."""

    def __init__(self) -> None:
        self._read: Callable[[str, int], int] = self._read_content
        self._held = ""  # read, and not known yet to be content or part of a call
        self._frame = Frame("")
        self._then: Callable[[], None] = self._begin_call  # once the frame is complete
        self._object = ObjectEnd()
        self._pieces: list[Piece] = []
        self.num_calls = 0

    @property
    def num_held(self) -> int:
        """How many characters at the end of what was fed are still open."""
        return len(self._held)

    def feed(self, text: str) -> list[Piece]:
        """What is now certain, in order."""
        at = 0
        while at < len(text):
            at = self._read(text, at)
        return self._take()

    def flush(self) -> list[Piece]:
        """The end. A call that never got to its arguments is content."""
        if self._frame.pattern != _TAIL and self._held.strip():
            self._pass(self._held)
        self._held = ""
        return self._take()

    def _take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    # The states: each reads `text` from `at` on, and returns where the next goes on.

    def _read_content(self, text: str, at: int) -> int:
        """Up to what may be an opening tag."""
        start = text.find(OPEN[0], at)
        if start < 0:
            self._pass(text[at:])
            return len(text)
        self._pass(text[at:start])
        self._begin_tag()
        return start + 1

    def _read_frame(self, text: str, at: int) -> int:
        """To the end of a frame, or to the first character that is not of it."""
        for end in range(at, len(text)):
            if not self._frame.feed(text[end]):
                self._held += text[at:end]
                self._give_up()
                return end
            if self._frame.is_complete:
                self._held += text[at : end + 1]
                self._then()
                return end + 1
        self._held += text[at:]
        return len(text)

    def _read_arguments(self, text: str, at: int) -> int:
        for end in range(at, len(text)):
            if self._object.feed(text[end]):
                self._send(arguments=text[at : end + 1])
                self._expect(_TAIL, self._end_call)
                return end + 1
        self._send(arguments=text[at:])
        return len(text)

    # The changes of state.

    def _begin_tag(self) -> None:
        self._expect(OPEN, self._begin_head)
        self._held = OPEN[0]
        self._frame.feed(OPEN[0])

    def _expect(self, pattern: str, then: Callable[[], None]) -> None:
        self._read, self._frame, self._then = self._read_frame, Frame(pattern), then

    def _begin_call(self) -> None:
        """The head is complete, with the first brace of the arguments."""
        self.num_calls += 1
        self._held = ""
        self._send(name=self._frame.name)
        self._send(arguments="{")
        self._object = ObjectEnd()
        self._read = self._read_arguments

    def _end_call(self) -> None:
        self._held = ""
        self._expect(_NEXT, self._begin_head)

    def _begin_head(self) -> None:
        self._expect(_HEAD, self._begin_call)

    def _give_up(self) -> None:
        """No call after all: what was held is content. A `<` that ends no call may begin one."""
        held, self._held = self._held, ""
        self._read = self._read_content
        if self._frame.pattern == _TAIL and held.endswith(OPEN[0]):
            self._pass(held[:-1])
            self._begin_tag()
        else:
            self._pass(held)

    # What comes out.

    def _pass(self, content: str) -> None:
        if content:
            self._pieces.append(content)

    def _send(self, name: str | None = None, arguments: str = "") -> None:
        self._pieces.append(ToolCallDelta(self.num_calls - 1, name, arguments))
