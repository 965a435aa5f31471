"""Tool calls as chat answers show them: deltas in a stream, and what they add up to in a message.

A call's id is made here: nothing below needs one.
"""

from collections.abc import Iterable
from typing import Literal
from uuid import uuid4

from msgspec import UNSET, Struct, UnsetType

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.text.events import ToolCallDelta
from thirdeye.server.text.tools.text_inputs import InputReaders


class FunctionNews(Struct, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class CustomNews(Struct, kw_only=True):
    name: str | UnsetType = UNSET
    input: str


class CallNews(Struct, kw_only=True):
    """A call's head, without arguments or input yet, or a piece of these."""

    index: Count
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: FunctionNews | UnsetType = UNSET
    custom: CustomNews | UnsetType = UNSET


class WholeFunction(Struct):
    name: str
    arguments: str


class WholeCustomTool(Struct):
    name: str
    input: str


class WholeCall(Struct, tag_field="type", tag="function"):
    id: str
    function: WholeFunction


class WholeCustomCall(Struct, tag_field="type", tag="custom"):
    id: str
    custom: WholeCustomTool


def new_call_id() -> str:
    return f"call_{uuid4().hex}"


def news_of(delta: ToolCallDelta, inputs: InputReaders) -> CallNews:
    text, name = inputs.read(delta), UNSET if delta.name is None else delta.name
    news = CallNews(index=delta.index)
    is_custom = inputs.is_custom(delta.index)
    if delta.name is not None:
        news.id = delta.call_id or new_call_id()
        news.type = "custom" if is_custom else "function"
    if is_custom:
        news.custom = CustomNews(name=name, input=text)
    else:
        news.function = FunctionNews(name=name, arguments=text)
    return news


def joined_calls(news: Iterable[CallNews]) -> list[WholeCall | WholeCustomCall]:
    """A message's `tool_calls`."""
    calls: list[WholeCall | WholeCustomCall] = []
    pieces: list[list[str]] = []
    for part in news:
        if part.id is not UNSET:
            calls.append(_begun(part, part.id))
            pieces.append([])
        if part.function is not UNSET:
            pieces[part.index].append(part.function.arguments)
        elif part.custom is not UNSET:
            pieces[part.index].append(part.custom.input)
    for call, texts in zip(calls, pieces, strict=True):
        if isinstance(call, WholeCall):
            call.function.arguments = "".join(texts)
        else:
            call.custom.input = "".join(texts)
    return calls


def joined_function(news: Iterable[FunctionNews]) -> WholeFunction | None:
    """A message's `function_call`, the older form of one call."""
    parts = list(news)
    if not parts:
        return None
    return WholeFunction(parts[0].name or "", "".join(part.arguments for part in parts))


def _begun(part: CallNews, call_id: str) -> WholeCall | WholeCustomCall:
    if part.custom is not UNSET:
        return WholeCustomCall(call_id, WholeCustomTool(part.custom.name or "", ""))
    assert part.function is not UNSET
    return WholeCall(call_id, WholeFunction(part.function.name or "", ""))
