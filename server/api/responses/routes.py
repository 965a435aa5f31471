"""`POST /v1/responses`: OpenAI's newer API over the same engine, without its store.

A request becomes a chat request: items become messages, `text.format` becomes `response_format`.
Calls of one turn are one assistant message, as chat has it. What comes out is in
`thirdeye.server.api.responses.events`.
"""

from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import Framing
from thirdeye.server.api.openai.as_chat import FieldNames, count_as_chat, plan_as_chat
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.responses.custom_tools import CustomCallItem, CustomTool, as_functions
from thirdeye.server.api.responses.events import ResponsesFormat
from thirdeye.server.api.responses.hosted import (
    FunctionTool,
    LeftOutItem,
    ShellCallItem,
    ShellOutputItem,
    left_out_tools,
)
from thirdeye.server.api.responses.schema import (
    LOGPROBS,
    CallItem,
    CallOutputItem,
    CustomOutputItem,
    Item,
    JsonSchemaFormat,
    MessageItem,
    ReasoningItem,
    ResponsesRequest,
    TextFormat,
    callable_tools,
)
from thirdeye.server.api.state.context import Context

FIELD_NAMES: FieldNames = [
    (r"messages(\[\d+\].*)?", "input"),
    (r"tools\[(\d+)\]\.function", r"tools[\1]"),
    (r"tool_choice\.function", "tool_choice"),
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
    "ignore_eos",
    "user",
    "metadata",
    "safety_identifier",
)


class ResponseInputTokens(Struct, kw_only=True):
    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: Count


def responses_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/responses", include_in_schema=False)
    @router.post(
        "/v1/responses",
        **documented("Responses", ResponsesRequest, answer="Response", streams="ResponseEvent"),
    )
    async def create_response(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, ResponsesRequest)
        check_ceilings(context.config, body.stop)
        model.check_name(body.model)
        check_responses(body)
        lifetime = lifetime_of(request)
        lifetime.ignored_params.update(left_out(body))
        generation = await plan_as_chat(
            as_chat(body),
            model,
            context.grammars,
            lifetime.caller,
            id_prefix="resp_",
            names=names_of(body),
        )
        tally = generation.tally()
        form = ResponsesFormat(body, generation, model, tally)
        framing = Framing(error=form.failed)
        return await respond(
            request, context, generation, form, tally, stream=body.stream, framing=framing
        )

    @router.post(
        "/v1/responses/input_tokens",
        **documented("Responses", ResponsesRequest, answer=ResponseInputTokens),
    )
    async def count_input_tokens(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, ResponsesRequest)
        model.check_name(body.model)
        check_responses(body)
        lifetime_of(request).ignored_params.update(left_out(body))
        count = await count_as_chat(as_chat(body), model, names_of(body))
        return json_response(ResponseInputTokens(input_tokens=count))

    return router


def check_responses(body: ResponsesRequest) -> None:
    """Rules between this dialect's own fields."""
    if body.top_logprobs and LOGPROBS not in body.include:
        raise refuse("top_logprobs", f"needs 'include': ['{LOGPROBS}'].")


def left_out(body: ResponsesRequest) -> list[str]:
    """The paths of what no model here can be told, or do. Raises `InvalidRequest`."""
    names = left_out_tools(body.tools, is_called=body.tool_choice != "none")
    for i, tool in callable_tools(body.tools):
        if isinstance(tool, CustomTool) and tool.has_loose_form:
            names.append(f"tools[{i}].format")
    for i, item in enumerate(body.input):
        if isinstance(item, LeftOutItem):
            names.append(f"input[{i}]")
        elif isinstance(item, ReasoningItem) and item.encrypted_content and not item.text:
            names.append(f"input[{i}].encrypted_content")
    return names


def names_of(body: ResponsesRequest) -> FieldNames:
    """Chat's tools are those of the request that can be called."""
    places: list[tuple[str, str]] = []
    for at, (i, tool) in enumerate(callable_tools(body.tools)):
        if isinstance(tool, CustomTool):
            places.append((rf"tools\[{at}\]\.function\.parameters", f"tools[{i}].format"))
        places.append((rf"tools\[{at}\]\.function", f"tools[{i}]"))
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
    has_tools = bool(callable_tools(body.tools))
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
            case CallItem() | CustomCallItem() | ShellCallItem():
                _calls_of_turn(messages, begins=bool(thought)).append(_call(item))
            case CallOutputItem() | CustomOutputItem() | ShellOutputItem():
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


def _call(item: CallItem | CustomCallItem | ShellCallItem) -> JsonObject:
    function = {"name": item.name, "arguments": item.arguments}
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
        "tools": [_tool(tool) for _, tool in callable_tools(body.tools)],
        "tool_choice": as_functions(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "max_tool_calls": body.max_tool_calls,
    }


def _without_tools(body: ResponsesRequest) -> JsonObject:
    if body.tool_choice not in ("auto", "none"):
        raise refuse("tool_choice", "needs 'tools'.")
    return {}


def _tool(tool: FunctionTool | CustomTool) -> JsonObject:
    if isinstance(tool, CustomTool):
        return {"type": "function", "function": tool.as_function()}
    function = tool.model_dump(exclude={"type"}, exclude_none=True)
    return {"type": "function", "function": function}
