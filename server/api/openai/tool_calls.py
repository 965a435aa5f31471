"""Tool calls as chat answers show them: deltas in a stream, or a list in a message.

A call's id is made here: nothing below needs one.
"""

from collections.abc import Iterable
from uuid import uuid4

from thirdeye.server.api.generation.answer_format import JsonObject, encode
from thirdeye.server.text.events import ToolCallDelta


def new_call_id() -> str:
    return f"call_{uuid4().hex}"


def delta_of(delta: ToolCallDelta) -> bytes:
    """The `delta` of one stream chunk: a call's head, without arguments yet, or a piece of them."""
    call: JsonObject = {"index": delta.index}
    function: JsonObject = {"arguments": delta.arguments}
    if delta.name is not None:
        call |= {"id": new_call_id(), "type": "function"}
        function = {"name": delta.name} | function
    return b'{"tool_calls":[' + encode(call | {"function": function}) + b"]}"


def whole_calls(deltas: Iterable[ToolCallDelta]) -> list[JsonObject]:
    """A message's `tool_calls`."""
    names: list[str] = []
    arguments: list[list[str]] = []
    for delta in deltas:
        if delta.name is not None:
            names.append(delta.name)
            arguments.append([])
        arguments[delta.index].append(delta.arguments)
    return [
        {
            "id": new_call_id(),
            "type": "function",
            "function": {"name": name, "arguments": "".join(pieces)},
        }
        for name, pieces in zip(names, arguments, strict=True)
    ]
