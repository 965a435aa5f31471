"""The call of a custom tool in an answer: the string in its arguments, as these come."""

import json
import re
from collections.abc import Iterator
from uuid import uuid4

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.openai.tool_calls import new_call_id
from thirdeye.server.api.responses.offered_tools import ToolAddress

Event = tuple[str, JsonObject]


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

    def __init__(self, output_index: int, address: ToolAddress, call_id: str) -> None:
        self._id = f"ctc_{uuid4().hex}"
        self._call_id = call_id or new_call_id()
        self._address = address
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
            **self._address.shown(),
            "input": "".join(self._input),
            "status": status,
        }
