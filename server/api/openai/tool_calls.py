"""Tool calls as chat answers show them: deltas in a stream, and what they add up to in a message.

A call's id is made here: nothing below needs one.
"""

from collections.abc import Iterable
from typing import Literal
from uuid import uuid4

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.text.events import ToolCallDelta


class FunctionNews(Struct, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class CallNews(Struct, kw_only=True):
    """A call's head, without arguments yet, or a piece of these."""

    index: Count
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionNews


class WholeFunction(Struct):
    name: str
    arguments: str


class WholeCall(Struct):
    id: str
    type: Literal["function"]
    function: WholeFunction


def new_call_id() -> str:
    return f"call_{uuid4().hex}"


def news_of(delta: ToolCallDelta) -> CallNews:
    if delta.name is None:
        return CallNews(index=delta.index, function=FunctionNews(arguments=delta.arguments))
    function = FunctionNews(name=delta.name, arguments=delta.arguments)
    call_id = delta.call_id or new_call_id()
    return CallNews(index=delta.index, id=call_id, type="function", function=function)


def joined_calls(news: Iterable[CallNews]) -> list[WholeCall]:
    """A message's `tool_calls`."""
    calls: list[WholeCall] = []
    pieces: list[list[str]] = []
    for part in news:
        if part.id is not UNSET and part.function.name is not UNSET:
            calls.append(WholeCall(part.id, "function", WholeFunction(part.function.name, "")))
            pieces.append([])
        pieces[part.index].append(part.function.arguments)
    for call, arguments in zip(calls, pieces, strict=True):
        call.function.arguments = "".join(arguments)
    return calls
