"""How a template writes calls of tools, by what it makes of one: what its text alone does not tell.

Most take the arguments as an object and an empty content beside a call. Some put a text into theirs
(DeepSeek V3, Hermes 2), and some take an empty content for another message, and have it null.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from thirdeye.server.text.events import ToolCallDelta
from thirdeye.server.text.tools.families.call_form import CallForm, CallIds
from thirdeye.server.text.tools.families.form_parser import FormParser, new_id
from thirdeye.server.text.tools.families.form_table import HARMONY_CALLS

_NAME, _ID = "canary", "call00000"
_OBJECT = {_NAME: _NAME}
_TEXT = f'{{"{_NAME}": "{_NAME}"}}'
_AS_PYTHON = f"{{'{_NAME}'"  # an object that was written as if it were a text
_HERMES = re.compile(r'<tool_call>\s*\{\s*"(name|arguments)"')

Render = Callable[[Sequence[dict[str, Any]]], str | None]  # None: it cannot be rendered


class SampleCalls:
    def __init__(self, render: Render) -> None:
        self._made = {
            (as_text, content): render(_messages(content, _TEXT if as_text else _OBJECT))
            for as_text in (False, True)
            for content in ("", None)
        }

    @property
    def are_written(self) -> bool:
        return any(self._is_good(*form) for form in self._made)

    @property
    def may_be_hermes(self) -> bool:
        """Whether calls are JSON between `<tool_call>` tags, or nothing is known of them."""
        made = [text for text in self._made.values() if text is not None and _NAME in text]
        return not made or any(_HERMES.search(text) for text in made)

    def find_form(self, forms: Iterable[CallForm]) -> CallForm | None:
        """The first of them by which the template's own calls are read; the first one of all where
        it writes none."""
        if not self.are_written:
            return next(iter(forms), None)
        made = [text for form, text in self._made.items() if text and self._is_good(*form)]
        return next((f for f in forms if any(_reads(f, text) for text in made)), None)

    @property
    def want_text(self) -> bool:
        """Whether arguments have to be given as JSON text."""
        return not (self._is_good(False, "") or self._is_good(False, None))

    @property
    def want_null(self) -> bool:
        """Whether the content beside a call has to be null where there is none."""
        as_text = self.want_text
        empty, null = self._made[as_text, ""], self._made[as_text, None]
        if null is None or not self._is_good(as_text, None):
            return False
        return empty is None or not self._is_good(as_text, "") or len(null) < len(empty)

    def _is_good(self, as_text: bool, content: str | None) -> bool:
        text = self._made[as_text, content]
        if text is None or _NAME not in text or _AS_PYTHON in text:
            return False
        return content is not None or "None" not in text


def _reads(form: CallForm, text: str) -> bool:
    """Whether a call of the sample's tool is found in a prompt. Where a call is a whole answer, one
    may begin wherever its first character stands."""
    if form is HARMONY_CALLS:
        return True
    if form.ids is CallIds.COUNTED:
        text = text.replace(_ID, new_id(form.ids, _NAME, 0))
    firsts = {start.lstrip()[0] for start in form.starts}
    places = [i for i, char in enumerate(text) if char in firsts and form.only_first]
    return any(_is_called(form, text[place:]) for place in places or [0])


def _is_called(form: CallForm, text: str) -> bool:
    pieces = FormParser(form, {}).feed(text)
    return any(isinstance(piece, ToolCallDelta) and piece.name == _NAME for piece in pieces)


def _messages(content: str | None, arguments: object) -> list[dict[str, Any]]:
    function = {"name": _NAME, "arguments": arguments}
    call = {"id": _ID, "type": "function", "index": 0, "function": function}
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "content": "1", "name": "tool", "tool_call_id": _ID},
    ]
