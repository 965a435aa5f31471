"""The call of a custom tool in an answer: the string in its arguments, as these come."""

from collections.abc import Iterator
from uuid import uuid4

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.openai.tools.tool_calls import new_call_id
from thirdeye.server.api.responses.offered_tools import ToolAddress
from thirdeye.server.text.tools.text_inputs import InputReader

Event = tuple[str, JsonObject]


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
