"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens` over the same engine.

A request becomes a chat request: `system` is a message in front, a `tool_use` block a call of its
assistant message, a `tool_result` block a message of role `tool`. A last turn of the assistant is
continued. What comes out is in `server.api.messages.shape`, how errors look in
`server.api.envelope`.
"""

import json
from collections.abc import Iterable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.answer import Context, json_response, respond
from server.api.ceilings import check_ceilings
from server.api.dialect import Words, count_as_chat, plan_as_chat
from server.api.envelope import MESSAGES_PATH
from server.api.intake import take
from server.api.lifetime import lifetime_of
from server.api.messages.schema import (
    REFUSED_IN_MESSAGES,
    AnthropicTool,
    AnthropicToolChoice,
    AssistantTurn,
    CountTokensRequest,
    MessagesRequest,
    NamedChoice,
    NoChoice,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from server.api.messages.shape import MessageShape, framing_of
from server.api.openapi.document import documented
from server.api.prepare import refuse
from server.api.shape import JsonObject

WORDS: Words = [
    (r"messages\[\d+\].*", "messages"),
    (r"continue_final_message", "messages"),
    (r"tools\[(\d+)\]\.function\.parameters", r"tools[\1].input_schema"),
    (r"tools\[(\d+)\]\.function", r"tools[\1]"),
    (r"tool_choice\.function", "tool_choice"),
    (r"response_format\.json_schema", "output_config.format"),
    (r"response_format", "output_config.format"),
    (r"max_completion_tokens", "max_tokens"),
    (r"stop", "stop_sequences"),
]
_MODES = {"auto": "auto", "any": "required", "none": "none"}


def messages_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post(
        MESSAGES_PATH,
        **documented(
            "Messages",
            MessagesRequest,
            answer="AnthropicMessage",
            error="AnthropicError",
            streams="MessageEvent",
        ),
    )
    async def create_message(request: Request) -> Response:
        _, model = context.state.serving()
        body = await take(request, context, MessagesRequest, REFUSED_IN_MESSAGES)
        check_ceilings(context.config, body.stop_sequences, stop_param="stop_sequences")
        model.check_name(body.model)
        lifetime = lifetime_of(request)
        generation = await plan_as_chat(
            as_chat(body), model, context.grammars, lifetime.caller, id_prefix="msg_", words=WORDS
        )
        tally = generation.tally()
        shape = MessageShape(generation, tally)
        framing = framing_of(lifetime.request_id)
        return await respond(
            request, context, generation, shape, tally, stream=body.stream, framing=framing
        )

    @router.post(
        f"{MESSAGES_PATH}/count_tokens",
        **documented(
            "Messages", CountTokensRequest, answer="AnthropicCount", error="AnthropicError"
        ),
    )
    async def count_tokens(request: Request) -> Response:
        _, model = context.state.serving()
        body = await take(request, context, CountTokensRequest, REFUSED_IN_MESSAGES)
        model.check_name(body.model)
        return json_response({"input_tokens": await count_as_chat(prompt_of(body), model, WORDS)})

    return router


def as_chat(body: MessagesRequest) -> JsonObject:
    """The same request in chat's words."""
    chat = prompt_of(body) | {
        "max_completion_tokens": body.max_tokens,
        "stream": body.stream,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "user": body.metadata and body.metadata.user_id,
    }
    return chat | ({"stop": list(body.stop_sequences)} if body.stop_sequences else {})


def prompt_of(body: CountTokensRequest) -> JsonObject:
    """What the prompt is made of, in chat's words."""
    chat: JsonObject = {"model": body.model, "messages": messages_of(body)}
    if body.messages[-1].role == "assistant":
        chat["continue_final_message"] = True
    if body.output_config is not None and body.output_config.format is not None:
        schema = {"name": "output", "schema": body.output_config.format.schema_}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if body.tools:
        chat["tools"] = [_tool(tool) for tool in body.tools]
        chat |= _choice(body.tool_choice)
    elif body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise refuse("tool_choice", "needs 'tools'.")
    return chat


def messages_of(body: CountTokensRequest) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if body.system is not None:
        messages.append({"role": "system", "content": _joined(body.system)})
    for turn in body.messages:
        messages += _user(turn) if isinstance(turn, UserTurn) else [_assistant(turn)]
    if body.messages[-1].role == "assistant" and "tool_calls" in messages[-1]:
        raise refuse("messages", "must not end with a tool's use: send its result.")
    return messages


def _user(turn: UserTurn) -> list[JsonObject]:
    """Tool results are messages of their own; text between them is one message."""
    messages: list[JsonObject] = []
    texts: list[str] = []
    for block in turn.content:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        else:
            messages += [*_said(texts), _result(block)]
            texts = []
    return messages + _said(texts) or [{"role": "user", "content": ""}]


def _said(texts: list[str]) -> list[JsonObject]:
    return [{"role": "user", "content": "".join(texts)}] if texts else []


def _result(block: ToolResultBlock) -> JsonObject:
    """Chat has no flag for a tool that failed, so the text says it."""
    text = _joined(block.content)
    content = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _assistant(turn: AssistantTurn) -> JsonObject:
    text = _joined(block for block in turn.content if isinstance(block, TextBlock))
    calls = [_call(block) for block in turn.content if isinstance(block, ToolUseBlock)]
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": calls}


def _call(block: ToolUseBlock) -> JsonObject:
    function = {"name": block.name, "arguments": json.dumps(block.input)}
    return {"id": block.id, "type": "function", "function": function}


def _joined(blocks: Iterable[TextBlock]) -> str:
    return "".join(block.text for block in blocks)


def _tool(tool: AnthropicTool) -> JsonObject:
    function: JsonObject = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: AnthropicToolChoice | None) -> JsonObject:
    if choice is None:
        return {"tool_choice": "auto"}
    if isinstance(choice, NoChoice):
        return {"tool_choice": "none"}
    if isinstance(choice, NamedChoice):
        mode: object = {"type": "function", "function": {"name": choice.name}}
    else:
        mode = _MODES[choice.type]
    return {"tool_choice": mode, "parallel_tool_calls": not choice.disable_parallel_tool_use}
