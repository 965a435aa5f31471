"""Custom tools: their input is text, plain or of a form, and no JSON.

To a model each is a function of one string, `input`, so that every family's form of calls can carry
it; an answer shows the string. A regular expression holds the string by the function's schema, a
grammar by the grammar of the answer. The model reads either in the tool's description.
"""

import json
import re
from dataclasses import dataclass

from thirdeye.server.text.events import ToolCallDelta
from thirdeye.server.text.tools.definitions import TextInput, Tool


@dataclass(frozen=True, slots=True)
class InputForm:
    """What the text of an input has to look like."""

    syntax: str  # "lark" or "regex"
    definition: str


_WORDS = {
    "regex": "Its input is text that this regular expression matches",
    "lark": "Its input is text of this grammar, in Lark's notation",
}


def custom_tool(name: str, description: str | None, form: InputForm | None) -> Tool:
    text: dict[str, object] = {"type": "string"}
    said = [description] if description else []
    if form is not None:
        said.append(f"{_WORDS[form.syntax]}:\n{form.definition}")
        if form.syntax == "regex":
            text["pattern"] = f"^(?:{form.definition})$"
    parameters = {
        "type": "object",
        "properties": {TextInput.NAME: text},
        "required": [TextInput.NAME],
        "additionalProperties": False,
    }
    is_lark = form is not None and form.syntax == "lark"
    return Tool(
        name,
        "\n\n".join(said) or None,
        parameters,
        TextInput(form.definition if form is not None and is_lark else None),
        strict=True,
    )


def input_as_arguments(text: str) -> str:
    """The arguments of the function that a custom tool is to a model."""
    return json.dumps({TextInput.NAME: text}, ensure_ascii=False)


class InputReader:
    """The string in a call's arguments, as these come: `{"input": "..."}`."""

    def __init__(self) -> None:
        self._held = ""
        self._is_inside = self._is_over = False

    def feed(self, arguments: str) -> str:
        """What of the string is now certain."""
        self._held += arguments
        if not self._is_inside:
            begin = _BEGIN.match(self._held)
            if begin is None:
                return ""
            self._is_inside, self._held = True, self._held[begin.end() :]
        if self._is_over:
            return ""
        found = _CHARS.match(self._held)
        assert found is not None, "it matches nothing, too"
        self._held = self._held[found.end() :]
        self._is_over = self._held.startswith('"')
        text: str = json.loads(f'"{found[0]}"', strict=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class InputReaders:
    """The calls of custom tools in one answer: their deltas with the text in place of arguments."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._readers: dict[int, InputReader] = {}

    def is_custom(self, index: int) -> bool:
        """Whether the call with this index, which has begun, is one of them."""
        return index in self._readers

    def read(self, delta: ToolCallDelta) -> str:
        """The arguments that a delta adds to its call, or the text."""
        if delta.name in self._names:
            self._readers[delta.index] = InputReader()
        reader = self._readers.get(delta.index)
        return delta.arguments if reader is None else reader.feed(delta.arguments)


_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_HEX = "[0-9a-fA-F]"
_HIGH, _LOW = rf"\\u[dD][89abAB]{_HEX}{{2}}", rf"\\u[dD][c-fC-F]{_HEX}{{2}}"
# Half of a character waits for the other, as long as that may come.
_CHARS = re.compile(
    rf'(?:[^"\\]|\\["\\/bfnrt]|{_HIGH}{_LOW}|{_HIGH}(?!{_LOW})(?=[^\\]|\\[^u]|\\u{_HEX}{{4}})'
    rf"|(?!{_HIGH})\\u{_HEX}{{4}})*"
)
