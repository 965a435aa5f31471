"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens` over the same engine.

A request becomes a chat request: `system` is a message in front, a `tool_use` block a call of its
assistant message, a `tool_result` block a message of role `tool`; a last turn of the assistant is
continued. What comes out is in `thirdeye.server.api.anthropic.events`.
"""

import json
from collections.abc import Iterable

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.anthropic import schema
from thirdeye.server.api.anthropic.anthropic_tools import (
    as_function,
    callable_tools,
    left_out_tools,
)
from thirdeye.server.api.anthropic.events import MessagesFormat, framing_of
from thirdeye.server.api.anthropic.text_blocks import TextBlock
from thirdeye.server.api.field_rules.renamed_fields import FieldNames
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.error_envelope import MESSAGES_PATH
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.as_chat import count_as_chat, plan_as_chat
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.state.context import Context

FIELD_NAMES: FieldNames = [
    (r"messages\[\d+\].*", "messages"),
    (r"continue_final_message", "messages"),
    (r"tool_choice\.function", "tool_choice"),
    (r"response_format\.json_schema", "output_config.format"),
    (r"response_format", "output_config.format"),
    (r"max_completion_tokens", "max_tokens"),
    (r"stop", "stop_sequences"),
    (r"reasoning_effort", "output_config.effort"),
]


class AnthropicCount(Struct):
    input_tokens: Count


def messages_routes(context: Context) -> APIRouter:
    router = APIRouter()
    to_message = documented(
        *("Messages", schema.MessagesRequest),
        answer="AnthropicMessage",
        error="AnthropicError",
        streams="MessageEvent",
    )
    to_count = documented(
        "Messages", schema.CountTokensRequest, answer=AnthropicCount, error="AnthropicError"
    )

    @router.post(MESSAGES_PATH, **to_message)
    async def create_message(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, schema.MessagesRequest)
        check_ceilings(context.config, body.stop_sequences, stop_param="stop_sequences")
        model.check_name(body.model)
        lifetime = lifetime_of(request)
        lifetime.ignored_params.update(left_out(body, model.reads_thoughts))
        generation = await plan_as_chat(
            as_chat(body),
            model,
            context.grammars,
            lifetime.caller,
            id_prefix="msg_",
            names=names_of(body),
        )
        tally = generation.tally()
        form = MessagesFormat(generation, tally)
        framing = framing_of(lifetime.request_id)
        return await respond(
            request, context, generation, form, tally, stream=body.stream, framing=framing
        )

    @router.post(f"{MESSAGES_PATH}/count_tokens", **to_count)
    async def count_tokens(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, schema.CountTokensRequest)
        model.check_name(body.model)
        lifetime_of(request).ignored_params.update(left_out(body, model.reads_thoughts))
        num_tokens = await count_as_chat(prompt_of(body), model, names_of(body))
        return json_response(AnthropicCount(num_tokens))

    return router


def left_out(body: schema.CountTokensRequest, reads_thoughts: bool) -> list[str]:
    """The paths of tools and blocks that are those of another server, of thoughts that reach no
    prompt, of an effort of not thinking. Raises `InvalidRequest`."""
    is_called = not isinstance(body.tool_choice, schema.NoChoice)
    blocks = [
        f"messages[{i}].content[{j}]"
        for i, turn in enumerate(body.messages)
        for j, block in enumerate(turn.content)
        if _says_nothing(block, reads_thoughts)
    ]
    is_off = body.thinking is not None and body.thinking.type == "disabled"
    effort = body.output_config and body.output_config.effort
    idle = ["output_config.effort"] if is_off and effort else []
    return [*left_out_tools(body.tools, is_called), *blocks, *idle]


def _says_nothing(block: object, reads_thoughts: bool) -> bool:
    if isinstance(block, schema.ThinkingBlock):
        return bool(block.thinking) and not reads_thoughts
    return isinstance(block, schema.LeftOutBlock | schema.RedactedThinkingBlock)


def names_of(body: schema.CountTokensRequest) -> FieldNames:
    """Chat's tools are those of the request that can be called."""
    places = [
        (rf"tools\[{at}\]\.function{field}", f"tools[{i}]{ours}")
        for at, (i, _) in enumerate(callable_tools(body.tools))
        for field, ours in ((r"\.parameters", ".input_schema"), ("", ""))
    ]
    return [*places, *FIELD_NAMES]


def as_chat(body: schema.MessagesRequest) -> JsonObject:
    """The same request in chat's words."""
    chat = prompt_of(body) | {
        "max_completion_tokens": body.max_tokens,
        "stream": body.stream,
        "user": body.metadata and body.metadata.user_id,
    }
    named = body.model_fields_set & {"temperature", "top_p", "top_k"}
    chat |= {name: getattr(body, name) for name in named}
    return chat | ({"stop": list(body.stop_sequences)} if body.stop_sequences else {})


def prompt_of(body: schema.CountTokensRequest) -> JsonObject:
    """What the prompt is made of, in chat's words."""
    chat: JsonObject = {"model": body.model, "messages": messages_of(body)}
    if body.messages[-1].role == "assistant":
        chat["continue_final_message"] = True
    chat |= _thinking(body)
    if body.output_config is not None and body.output_config.format is not None:
        output = {"name": "output", "schema": body.output_config.format.schema_}
        chat["response_format"] = {"type": "json_schema", "json_schema": output}
    if tools := [as_function(tool) for _, tool in callable_tools(body.tools)]:
        chat["tools"] = tools
        chat |= _choice(body.tool_choice)
    elif body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise refuse("tool_choice", "needs 'tools'.")
    return chat


def _thinking(body: schema.CountTokensRequest) -> JsonObject:
    """Whether to think and how hard. Thoughts are shown to those who asked for them."""
    asked, effort = body.thinking, body.output_config and body.output_config.effort
    if asked is None:
        return {"include_reasoning": False, "reasoning_effort": effort}
    chat: JsonObject = {"include_reasoning": asked.display != "omitted"}
    chat["thinking"] = {"type": asked.type, "budget_tokens": asked.budget_tokens}
    if effort is not None and asked.type != "disabled":
        chat["reasoning_effort"] = effort
    return chat


def messages_of(body: schema.CountTokensRequest) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if body.system is not None:
        messages.append({"role": "system", "content": _joined(body.system)})
    for turn in body.messages:
        match turn:
            case schema.UserTurn():
                messages += _user(turn)
            case schema.AssistantTurn():
                messages.append(_assistant(turn))
            case schema.SystemTurn():
                messages.append({"role": "system", "content": _joined(turn.content)})
    if body.messages[-1].role == "assistant" and "tool_calls" in messages[-1]:
        raise refuse("messages", "must not end with a tool's use: send its result.")
    return messages


def _user(turn: schema.UserTurn) -> list[JsonObject]:
    """Tool results are messages of their own; text between them is one message."""
    messages: list[JsonObject] = []
    texts: list[str] = []
    for block in turn.content:
        if isinstance(block, schema.ToolResultBlock):
            messages += [*_said(texts), _result(block)]
            texts = []
        else:
            texts.append(block.text)
    return messages + _said(texts) or [{"role": "user", "content": ""}]


def _said(texts: list[str]) -> list[JsonObject]:
    return [{"role": "user", "content": "".join(texts)}] if texts else []


def _result(block: schema.ToolResultBlock) -> JsonObject:
    """Chat has no flag for a tool that failed, so the text says it."""
    text = _joined(block.content)
    content = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _assistant(turn: schema.AssistantTurn) -> JsonObject:
    text = _joined(block for block in turn.content if isinstance(block, TextBlock))
    calls = [_call(block) for block in turn.content if isinstance(block, schema.ToolUseBlock)]
    message: JsonObject = {"role": "assistant", "content": text}
    thoughts = (b.thinking for b in turn.content if isinstance(b, schema.ThinkingBlock))
    if thought := "\n\n".join(thoughts):
        message["reasoning_content"] = thought
    return message | {"content": text or None, "tool_calls": calls} if calls else message


def _call(block: schema.ToolUseBlock) -> JsonObject:
    function = {"name": block.name, "arguments": json.dumps(block.input)}
    return {"id": block.id, "type": "function", "function": function}


def _joined(blocks: Iterable[schema.Result]) -> str:
    return "".join(block.text for block in blocks)


def _choice(choice: schema.AnthropicToolChoice | None) -> JsonObject:
    if choice is None or isinstance(choice, schema.NoChoice):
        return {"tool_choice": "none" if choice else "auto"}
    mode: object = "required" if choice.type == "any" else choice.type
    if isinstance(choice, schema.NamedChoice):
        mode = {"type": "function", "function": {"name": choice.name}}
    return {"tool_choice": mode, "parallel_tool_calls": not choice.disable_parallel_tool_use}
