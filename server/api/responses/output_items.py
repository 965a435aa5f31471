"""The items of an output as they grow: text, thoughts, calls of functions. Each says its events."""

from collections.abc import Iterable, Iterator
from uuid import uuid4

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.openai.logprob_lists import chat_logprobs
from thirdeye.server.api.openai.tools.tool_calls import new_call_id
from thirdeye.server.api.responses.offered_tools import ToolAddress
from thirdeye.server.text.events import TextToken
from thirdeye.server.text.tokenizer import TokenizerLike

Event = tuple[str, JsonObject]  # its type, and what it says besides


class MessageWriter:
    """An output item that is text, from its first character to its last."""

    def __init__(self, output_index: int, tokenizer: TokenizerLike | None) -> None:
        """`tokenizer` names the tokens of logprobs; None if nobody asked for them."""
        self._id = f"msg_{uuid4().hex}"
        self._place: JsonObject = {"item_id": self._id, "output_index": output_index}
        self._output_index = output_index
        self._tokenizer = tokenizer
        self._texts: list[str] = []
        self._logprobs: list[object] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress") | {"content": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield "response.content_part.added", self._at_part(part=self._part())

    def delta(self, text: str, tokens: Iterable[TextToken]) -> Iterator[Event]:
        logprobs = self._scored(text, tokens)
        self._texts.append(text)
        self._logprobs += logprobs
        yield "response.output_text.delta", self._at_part(delta=text, logprobs=logprobs)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part()
        done = self._at_part(text=part["text"], logprobs=self._logprobs)
        yield "response.output_text.done", done
        yield "response.content_part.done", self._at_part(part=part)
        item = self.item(status)
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {
            "type": "message",
            "id": self._id,
            "status": status,
            "role": "assistant",
            "content": [self._part()],
        }

    def _part(self) -> JsonObject:
        return {
            "type": "output_text",
            "text": "".join(self._texts),
            "annotations": [],
            "logprobs": self._logprobs,
        }

    def _at_part(self, **fields: object) -> JsonObject:
        return {**self._place, "content_index": 0, **fields}

    def _scored(self, text: str, tokens: Iterable[TextToken]) -> list[object]:
        """The logprobs of the text's tokens; what ends it or begins a call is none of them."""
        if self._tokenizer is None:
            return []
        return [*chat_logprobs(_tokens_of(text, tokens), self._tokenizer).content]


def _tokens_of(text: str, tokens: Iterable[TextToken]) -> list[TextToken]:
    """The shown tokens up to the one that completes the text."""
    shown: list[TextToken] = []
    rest = len(text.encode())
    for token in tokens:
        if token.raw is not None and rest > 0:
            shown.append(token)
            rest -= len(token.raw)
    return shown


class ReasoningWriter:
    """An output item that is what the model thought: its summary is all of it."""

    def __init__(self, output_index: int) -> None:
        self._id = f"rs_{uuid4().hex}"
        self._output_index = output_index
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress") | {"summary": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield "response.reasoning_summary_part.added", self._at_part(part=self._part())

    def delta(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield "response.reasoning_summary_text.delta", self._at_part(delta=text)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part()
        yield "response.reasoning_summary_text.done", self._at_part(text=part["text"])
        yield "response.reasoning_summary_part.done", self._at_part(part=part)
        item = self.item(status)
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {"type": "reasoning", "id": self._id, "summary": [self._part()], "status": status}

    def _part(self) -> JsonObject:
        return {"type": "summary_text", "text": "".join(self._texts)}

    def _at_part(self, **fields: object) -> JsonObject:
        place = {"item_id": self._id, "output_index": self._output_index, "summary_index": 0}
        return {**place, **fields}


class CallWriter:
    """An output item that is the call of a function."""

    def __init__(self, output_index: int, address: ToolAddress, call_id: str) -> None:
        self._id = f"fc_{uuid4().hex}"
        self._call_id = call_id or new_call_id()
        self._address = address
        self._output_index = output_index
        self._place: JsonObject = {"item_id": self._id, "output_index": output_index}
        self._arguments: list[str] = []

    def begin(self) -> Iterator[Event]:
        item = self.item("in_progress")
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}

    def delta(self, arguments: str) -> Iterator[Event]:
        self._arguments.append(arguments)
        yield "response.function_call_arguments.delta", {**self._place, "delta": arguments}

    def end(self, status: str) -> Iterator[Event]:
        item = self.item(status)
        done = {**self._place, "name": self._address.name, "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", done
        yield "response.output_item.done", {"output_index": self._output_index, "item": item}

    def item(self, status: str) -> JsonObject:
        return {
            "type": "function_call",
            "id": self._id,
            "call_id": self._call_id,
            **self._address.shown(),
            "arguments": "".join(self._arguments),
            "status": status,
        }
