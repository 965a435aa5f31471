"""Custom tools: their input is text, plain or of a form, and no JSON.

To a model each is a function of one string, `input`, so that every family's form of calls can carry
it; an answer shows the string. A regular expression holds the string by the function's schema. A
grammar in Lark's notation is in the tool's description, and is named as not held.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field, Tag

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.openai.tool_calls import new_call_id
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.requests.tagged_unions import kinds
from thirdeye.server.api.requests.tool_fields import CalledName, FunctionName
from thirdeye.server.api.responses.hosted import ItemName

Event = tuple[str, JsonObject]
_WORDS = {
    "regex": "Its input is text that this regular expression matches",
    "lark": "Its input is text of this grammar, in Lark's notation",
}


class PlainInput(Strict):
    type: Literal["text"]


class GrammarInput(Strict):
    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: str = Field(min_length=1, max_length=64 * 1024)


InputFormat = Annotated[
    Annotated[PlainInput, Tag("<text>")] | Annotated[GrammarInput, Tag("<grammar>")],
    *kinds("text", "grammar"),
]


class CustomTool(Strict):
    type: Literal["custom"]
    name: FunctionName
    description: str | None = None
    format: InputFormat | None = None

    @property
    def has_loose_form(self) -> bool:
        """Whether it asks for a form that calls are not held to."""
        return isinstance(self.format, GrammarInput) and self.format.syntax == "lark"

    def as_function(self) -> JsonObject:
        """In chat's words."""
        text: dict[str, Any] = {"type": "string"}
        said = [self.description] if self.description else []
        if isinstance(self.format, GrammarInput):
            said.append(f"{_WORDS[self.format.syntax]}:\n{self.format.definition}")
            if self.format.syntax == "regex":
                text["pattern"] = f"^(?:{self.format.definition})$"
        parameters = {
            "type": "object",
            "properties": {"input": text},
            "required": ["input"],
            "additionalProperties": False,
        }
        function: JsonObject = {"name": self.name, "parameters": parameters, "strict": True}
        return function | ({"description": "\n\n".join(said)} if said else {})


class CustomCallItem(Strict):
    type: Literal["custom_tool_call"]
    call_id: ItemName
    name: CalledName
    input: str
    id: ItemName | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None

    @property
    def arguments(self) -> str:
        return json.dumps({"input": self.input}, ensure_ascii=False)


def as_functions(choice: Any) -> Any:
    """A choice of tools where the custom ones are functions, as they are to a model."""
    if not isinstance(choice, dict):
        return choice
    kind, tools = choice.get("type"), choice.get("tools")
    found = choice | {"type": "function"} if kind == "custom" else choice
    return found | {"tools": [*map(as_functions, tools)]} if isinstance(tools, list) else found


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


_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_HEX = "[0-9a-fA-F]"
_HIGH, _LOW = rf"\\u[dD][89abAB]{_HEX}{{2}}", rf"\\u[dD][c-fC-F]{_HEX}{{2}}"
# Half of a character waits for the other, as long as that may come.
_CHARS = re.compile(
    rf'(?:[^"\\]|\\["\\/bfnrt]|{_HIGH}{_LOW}|{_HIGH}(?!{_LOW})(?=[^\\]|\\[^u]|\\u{_HEX}{{4}})'
    rf"|(?!{_HIGH})\\u{_HEX}{{4}})*"
)


class CustomCallWriter:
    """An output item that is the call of a custom tool."""

    def __init__(self, output_index: int, name: str, call_id: str) -> None:
        self._id = f"ctc_{uuid4().hex}"
        self._call_id = call_id or new_call_id()
        self._name = name
        self._output_index = output_index
        self._place: JsonObject = {"item_id": self._id, "output_index": output_index}
        self._reader = InputReader()
        self._input: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress")
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}

    def delta(self, arguments: str) -> Iterator[Event]:
        if text := self._reader.feed(arguments):
            self._input.append(text)
            yield "response.custom_tool_call_input.delta", {**self._place, "delta": text}

    def end(self, status: str) -> Iterator[Event]:
        item = self.item(status)
        yield "response.custom_tool_call_input.done", {**self._place, "input": item["input"]}
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {
            "type": "custom_tool_call",
            "id": self._id,
            "call_id": self._call_id,
            "name": self._name,
            "input": "".join(self._input),
            "status": status,
        }
