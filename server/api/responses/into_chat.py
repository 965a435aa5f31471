"""A request as chat has it: items become messages, `text.format` becomes `response_format`.

Calls of one turn are one assistant message, as chat has it.
"""

from collections.abc import Iterable

from thirdeye.server.api.field_rules.renamed_fields import FieldNames
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.responses.hosted import (
    ClientCall,
    LeftOutItem,
    PatchCallItem,
    PatchOutputItem,
    ShellCallItem,
    ShellOutputItem,
    ShellRunItem,
    ShellRunOutputItem,
)
from thirdeye.server.api.responses.items import (
    CallItem,
    CallOutputItem,
    CustomCallItem,
    CustomOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
)
from thirdeye.server.api.responses.offered_tools import ToolAddress, left_out_tools, offered_tools
from thirdeye.server.api.responses.schema import (
    INCLUDED,
    LOGPROBS,
    JsonSchemaFormat,
    ResponsesRequest,
    TextFormat,
)

FIELD_NAMES: FieldNames = [
    (r"messages(\[\d+\].*)?", "input"),
    (r"tools\[(\d+)\]\.(function|custom)", r"tools[\1]"),
    (r"tool_choice\.(function|custom)", "tool_choice"),
    (r"response_format\.json_schema", "text.format"),
    (r"response_format", "text.format"),
    (r"max_(completion_)?tokens", "max_output_tokens"),
    (r"reasoning\.effort", "reasoning.effort"),
]
# Fields with the same name and meaning in chat.
_SHARED = (
    "model",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "repeat_last_n",
    "ignore_eos",
    "user",
    "metadata",
    "safety_identifier",
)


def left_out(body: ResponsesRequest, reads_thoughts: bool) -> list[str]:
    """The paths of what no model here can be told, or do. Raises `InvalidRequest`."""
    names = left_out_tools(body.tools, is_called=body.tool_choice != "none")
    names += [f"include[{i}]" for i, name in enumerate(body.include) if name not in INCLUDED]
    for i, item in enumerate(body.input):
        is_unread = isinstance(item, ReasoningItem) and item.text and not reads_thoughts
        if isinstance(item, LeftOutItem) or is_unread:
            names.append(f"input[{i}]")
        elif isinstance(item, ReasoningItem) and item.encrypted_content:
            names.append(f"input[{i}].encrypted_content")
    return names


def names_of(body: ResponsesRequest) -> FieldNames:
    """Chat's tools are those of the request that can be called."""
    places: list[tuple[str, str]] = []
    for at, offered in enumerate(offered_tools(body.tools)):
        places.append((rf"tools\[{at}\]\.(function|custom)", offered.path))
    return [*places, *FIELD_NAMES]


def as_chat(body: ResponsesRequest) -> JsonObject:
    """The same request in chat's words. What was left out stays out."""
    named = (name for name in _SHARED if name in body.model_fields_set)
    chat: JsonObject = {name: getattr(body, name) for name in named}
    chat["messages"] = messages_of(body.instructions, body.input)
    if body.max_output_tokens is not None:
        chat["max_completion_tokens"] = body.max_output_tokens
    if body.stop:
        chat["stop"] = list(body.stop)
    if LOGPROBS in body.include:
        chat |= {"logprobs": True, "top_logprobs": body.top_logprobs}
    if body.reasoning is not None and body.reasoning.effort is not None:
        chat["reasoning"] = {"effort": body.reasoning.effort}
    if body.text.format.type != "text":
        chat["response_format"] = response_format_of(body.text.format)
    has_tools = any(offered_tools(body.tools))
    return chat | (_tools_of(body) if has_tools else _without_tools(body))


def messages_of(
    instructions: str | None,
    items: Iterable[Item],
) -> list[JsonObject]:
    """Chat messages: the instructions in front, a turn's calls together in one message, which has
    the thoughts that stand before it."""
    messages: list[JsonObject] = []
    thought = ""
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    for item in items:
        match item:
            case ReasoningItem():
                thought = "\n\n".join(filter(None, (thought, item.text)))
                continue
            case MessageItem():
                messages.append({"role": item.role, "content": item.content})
            case LeftOutItem():
                continue
            case CallItem() | CustomCallItem() | ShellCallItem() | ShellRunItem() | PatchCallItem():
                _calls_of_turn(messages, begins=bool(thought)).append(_call(item))
            case (
                CallOutputItem()
                | CustomOutputItem()
                | ShellOutputItem()
                | ShellRunOutputItem()
                | PatchOutputItem()
            ):
                call_id = item.call_id or item.id or ""
                messages.append({"role": "tool", "tool_call_id": call_id, "content": item.output})
        if thought and messages[-1]["role"] == "assistant":
            messages[-1]["reasoning_content"] = thought
        thought = ""
    return messages


def _calls_of_turn(messages: list[JsonObject], begins: bool) -> list[JsonObject]:
    """The calls of the assistant message at the end; one is begun if there is none, or thoughts
    begin it."""
    if begins or not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    calls = messages[-1].setdefault("tool_calls", [])
    assert isinstance(calls, list)
    return calls


def _call(item: CallItem | CustomCallItem | ClientCall) -> JsonObject:
    address = ToolAddress(item.name, getattr(item, "namespace", None))
    if isinstance(item, CustomCallItem):
        custom = {"name": address.joined, "input": item.input}
        return {"id": item.call_id, "type": "custom", "custom": custom}
    function = {"name": address.joined, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def response_format_of(wanted: TextFormat) -> JsonObject:
    if not isinstance(wanted, JsonSchemaFormat):
        return {"type": wanted.type}
    schema: JsonObject = {"name": wanted.name, "schema": wanted.schema_}
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}


def _tools_of(body: ResponsesRequest) -> JsonObject:
    return {
        "tools": [tool.as_chat() for tool in offered_tools(body.tools)],
        "tool_choice": body.tool_choice,
        "parallel_tool_calls": body.parallel_tool_calls,
        "max_tool_calls": body.max_tool_calls,
    }


def _without_tools(body: ResponsesRequest) -> JsonObject:
    if body.tool_choice not in ("auto", "none"):
        raise refuse("tool_choice", "needs 'tools'.")
    return {}
