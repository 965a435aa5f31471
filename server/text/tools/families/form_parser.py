"""Tool calls of any family in a stream of text: `ToolCallParser` for the forms of a table.

    content -> start -> arguments -> tail -> again -> arguments ...
                                          `-> close -> content

It reads one character at a time, so no cut can matter. Held back is what may still be a frame of
the form; a frame that is none after all is content, from which reading goes on at the next place
where a call may begin. Arguments come out as JSON, whatever they were written in.
"""

import secrets
import string
from collections.abc import Callable, Mapping

from thirdeye.server.text.events import Piece, ToolCallDelta
from thirdeye.server.text.tools.families.argument_readers import (
    ArgumentReader,
    make_argument_reader,
)
from thirdeye.server.text.tools.families.call_form import CallForm, CallIds
from thirdeye.server.text.tools.families.typed_values import Schema
from thirdeye.server.text.tools.frame import Frame

_ALPHANUMERIC = string.ascii_letters + string.digits


class FormParser:
    """Reads one answer. What it returns is final."""

    def __init__(self, form: CallForm, parameters: Mapping[str, Schema]) -> None:
        """`parameters`: the schema of each tool's arguments, by its name."""
        self._form = form
        self._parameters = parameters
        self._firsts = frozenset(start.lstrip()[0] for start in form.starts)
        self._held = ""
        self._frames: list[tuple[Frame, Callable[[Frame], None]]] = []
        self._reader: ArgumentReader | None = None
        self._is_behind_call = False  # what does not go on with the calls is content
        self._pieces: list[Piece] = []
        self.num_calls = 0
        if form.only_first:
            self._expect_start()

    @property
    def num_held(self) -> int:
        """How many characters at the end of what was fed are still open."""
        return len(self._held)

    def feed(self, text: str) -> list[Piece]:
        """What is now certain, in order."""
        for char in text:
            self._read(char)
        return self._take()

    def flush(self) -> list[Piece]:
        """The end. A call that never got to its arguments is content; white space behind a call
        is its own."""
        held, self._held, self._frames = self._held, "", []
        if held.strip() if self._is_behind_call else held:
            self._pass(held)
        return self._take()

    def _take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _read(self, char: str) -> None:
        if self._reader is not None:
            self._read_argument(char, self._reader)
        elif self._frames:
            self._read_frame(char)
        elif char in self._firsts and not self._form.only_first:
            self._expect_start()
            self._read_frame(char)
        else:
            self._pass(char)

    def _expect_start(self) -> None:
        self._frames = [(Frame(start), self._begin_call) for start in self._form.starts]
        self._is_behind_call = False

    def _read_frame(self, char: str) -> None:
        self._held += char
        self._frames = [(frame, then) for frame, then in self._frames if frame.feed(char)]
        for frame, then in self._frames:
            if frame.is_complete:
                self._frames, self._held = [], ""
                then(frame)
                return
        if not self._frames:
            self._give_up()

    def _give_up(self) -> None:
        """No frame after all. Its first character is content, and what follows is read anew."""
        held, self._held = self._held, ""
        first = next((i for i, c in enumerate(held) if i > 0 and c in self._firsts), len(held))
        if self._is_behind_call and held[0] in self._firsts:
            first = 0
        self._is_behind_call = False
        if self._form.only_first:
            first = len(held)
        self._pass(held[:first])
        for char in held[first:]:
            self._read(char)

    def _begin_call(self, frame: Frame) -> None:
        self.num_calls += 1
        name, index = frame.name, self.num_calls - 1
        self._pieces.append(ToolCallDelta(index, name, call_id=new_id(self._form.ids, name, index)))
        self._reader = make_argument_reader(self._form.arguments, self._parameters.get(name, {}))

    def _read_argument(self, char: str, reader: ArgumentReader) -> None:
        text = reader.feed(char)
        if text:
            self._add(text)
        if reader.is_done:
            self._reader = None
            self._is_behind_call = True
            if self._form.tail:
                self._frames = [(Frame(self._form.tail), lambda _: self._expect_more())]
            else:
                self._expect_more()

    def _expect_more(self) -> None:
        self._is_behind_call = True
        self._frames = [(Frame(again), self._begin_call) for again in self._form.again]
        if self._form.close:
            self._frames.append((Frame(self._form.close), lambda _: self._expect_none()))

    def _expect_none(self) -> None:
        self._is_behind_call = True

    def _pass(self, text: str) -> None:
        """Content. What comes together goes out together."""
        if not text:
            return
        if self._pieces and isinstance(self._pieces[-1], str):
            self._pieces[-1] += text
        else:
            self._pieces.append(text)

    def _add(self, arguments: str) -> None:
        index, last = self.num_calls - 1, self._pieces[-1] if self._pieces else None
        if isinstance(last, ToolCallDelta) and last.name is None:
            self._pieces[-1] = ToolCallDelta(index, None, last.arguments + arguments)
        else:
            self._pieces.append(ToolCallDelta(index, None, arguments))


def new_id(ids: CallIds, name: str, index: int) -> str:
    """A call's id in the family's own form; none where any will do."""
    if ids is CallIds.COUNTED:
        return f"functions.{name}:{index}"
    if ids is CallIds.NINE:
        return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))
    return ""
