"""`POST /v1/chat/completions`: messages in, an assistant message out, whole or as chunks."""

import asyncio
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.field_rules.renamed_fields import renaming_fields
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import AnswerFields, check_room, plan_answer
from thirdeye.server.api.generation.request_rules import (
    check_common,
    constraint_of,
    context_exceeded,
    refuse,
)
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.generation.thinking import ThinkingPlan, plan_thinking, thought_terms
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.chat_format import ChatCompletion, ChatFormat
from thirdeye.server.api.openai.schema import (
    AssistantMessage,
    ChatRequest,
    CustomCall,
    Message,
    SentCall,
    TokenizeRequest,
    ToolMessage,
)
from thirdeye.server.api.openai.tools.old_functions import (
    check_functions,
    names_of,
    with_calls,
)
from thirdeye.server.api.openai.tools.tool_use import compile_tools, tool_use
from thirdeye.server.api.reasoning.sent_thoughts import unread_thoughts
from thirdeye.server.api.receipts.receipt_writer import ReceiptWriter
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.grammar_cache import Grammars
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.server.text.templates.completion_prompt import PromptTooLong
from thirdeye.server.text.tools.definitions import Tool, ToolUse
from thirdeye.server.text.tools.families.form_table import HARMONY_CALLS
from thirdeye.server.text.tools.form import OPEN
from thirdeye.server.text.tools.tool_prompt import fit


def chat_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/chat/completions", include_in_schema=False)
    @router.post(
        "/v1/chat/completions",
        **documented("Chat", ChatRequest, answer=ChatCompletion, streams="ChatCompletionChunk"),
    )
    async def create_chat_completion(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, ChatRequest)
        check_ceilings(context.config, body.stop, body.n)
        model.check_name(body.model)
        check_common(body, model)
        check_chat(body)
        names = names_of(body)
        lifetime = lifetime_of(request)
        lifetime.ignored_params.update(unread_thoughts(body.messages, model.reads_thoughts))
        with renaming_fields(names):
            generation = await plan_chat(body, model, context.grammars, lifetime.caller)
            generation = generation.renamed(names)
        tally = generation.tally(ReceiptWriter(generation, model) if body.receipt else None)
        form = ChatFormat(body, generation, model, tally)
        return await respond(request, context, generation, form, tally, stream=body.stream)

    return router


def check_chat(body: ChatRequest) -> None:
    """Rules between chat's own fields."""
    if body.top_logprobs and not body.logprobs:
        raise refuse("top_logprobs", "needs 'logprobs': true.")
    if body.include_reasoning_logprobs and not body.logprobs:
        raise refuse("include_reasoning_logprobs", "needs 'logprobs': true.")
    both = body.max_tokens is not None and body.max_completion_tokens is not None
    if both and body.max_tokens != body.max_completion_tokens:
        raise refuse("max_tokens", "must equal 'max_completion_tokens' when both are given.")
    check_functions(body)
    check_continuation(body, body.messages)


def check_continuation(body: ChatRequest | TokenizeRequest, messages: Sequence[Message]) -> None:
    """Either a new message is begun, or the assistant's last one goes on."""
    if not continues(body, messages):
        return
    param = "continue_final_message"
    if not body.continue_final_message:
        word = "partial" if "partial" in messages[-1].model_fields_set else "prefix"
        param = f"messages[{len(messages) - 1}].{word}"
    if "add_generation_prompt" in body.model_fields_set and body.add_generation_prompt:
        raise refuse(param, "cannot go with 'add_generation_prompt': true.")
    if messages[-1].role != "assistant":
        raise refuse("continue_final_message", "needs an assistant message at the end.")


def continues(body: ChatRequest | TokenizeRequest, messages: Sequence[Message]) -> bool:
    """Whether the last message goes on, by vLLM's word for it, Mistral's and DeepSeek's, or
    Moonshot's and Qwen's."""
    last = messages[-1]
    if body.continue_final_message:
        return True
    return isinstance(last, AssistantMessage) and (last.prefix or last.partial)


async def plan_chat(
    body: ChatRequest,
    model: ServedModel,
    grammars: Grammars,
    caller: str,
    id_prefix: str = "chatcmpl-",
) -> Generation:
    """The engine requests of a chat request. Raises `InvalidRequest` for what does not fit."""
    body = model.defaults.fill(body)
    tools = tool_use(body, model)
    thinking = plan_thinking(body, model)
    may_call = tools is not None and tools.may_call
    is_whole = body.allowed_token_ids is not None  # the thinking is made of them, too
    if is_whole and may_call:
        raise refuse("allowed_token_ids", "cannot go with 'tools': calls need other tokens.")
    is_bounded = body.truncate_prompt_tokens is None
    ids = await encode_chat(body, model, tools, thinking, is_bounded=is_bounded)
    is_old_name = body.max_completion_tokens is None
    max_tokens = body.max_tokens if is_old_name else body.max_completion_tokens
    check_room(body, [ids], model, max_tokens, "messages")
    content = await grammars.of(*constraint_of(body), caller)
    form = model.template.for_tools.call_form if model.template else None
    grammar, left_out = await compile_tools(tools, content, grammars, caller, form)
    thoughts = thought_terms(
        thinking,
        ids,
        model,
        grammar="" if is_whole else grammar,
        is_headed=may_call and form is HARMONY_CALLS,
        call_mark=(OPEN if form is None else form.mark) if may_call else "",
        min_tokens=0 if is_whole else body.min_tokens,
    )
    if is_whole and thoughts.engine is not None:
        rule = "cannot go with a budget of thinking: that ends with tokens of its own."
        raise refuse("allowed_token_ids", rule)
    own = AnswerFields(
        id_prefix=id_prefix,
        prompt_param="messages",
        max_tokens=max_tokens,
        max_tokens_param="max_tokens" if is_old_name else "max_completion_tokens",
        is_default_limit=not {"max_tokens", "max_completion_tokens"} & body.model_fields_set,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        prompt_logprobs=body.prompt_logprobs,
        lists_tokens=body.logprobs or body.return_token_ids,
        grammar=grammar if is_whole else thoughts.grammar,
        parse_tool_calls=may_call,
        call_form=form,
        tools=tools.tools if tools else (),
        thoughts=thoughts,
        ignored=[*thinking.ignored, *left_out],
    )
    return plan_answer(body, own, [ids], model, caller)


async def encode_chat(
    body: ChatRequest,
    model: ServedModel,
    tools: ToolUse | None,
    thinking: ThinkingPlan,
    *,
    is_bounded: bool,
) -> list[int]:
    """The prompt of a request. Raises `InvalidRequest`; `is_bounded`: also for what cannot fit."""
    goes_on = continues(body, body.messages)
    return await encode_messages(
        body.messages,
        model,
        tools=tools.shown_tools() if tools else (),
        add_special_tokens=body.add_special_tokens,
        add_generation_prompt=body.add_generation_prompt and not goes_on,
        continue_final_message=goes_on,
        variables=thinking.variables,
        is_bounded=is_bounded,
    )


async def encode_messages(
    messages: Sequence[Message],
    model: ServedModel,
    *,
    tools: Sequence[Tool] = (),
    add_special_tokens: bool,
    add_generation_prompt: bool,
    continue_final_message: bool,
    variables: Mapping[str, object] | None = None,
    is_bounded: bool = True,
) -> list[int]:
    """Token ids of a conversation, made in a thread. What cannot fit is refused before that."""
    template = model.template
    if template is None:
        raise InvalidRequest(
            "This model has no chat template: use /v1/completions.",
            param="messages",
            code="unsupported_parameter",
        )
    context, sent = model.max_model_len, [*with_calls(messages)]

    def encode_in_thread() -> list[int]:
        definitions = [tool.definition for tool in tools] or None
        chosen = template.for_tools if definitions else template
        fitted, shown = fit([_plain(message) for message in sent], definitions, chosen)
        return chosen.encode(
            fitted,
            tools=shown,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables={**model.template_variables, **(variables or {})},
            max_tokens=context if is_bounded else None,
        )

    try:
        ids = await asyncio.to_thread(encode_in_thread)
    except PromptTooLong as error:
        fewest = error.num_tokens_at_least
        raise context_exceeded(fewest, context, "messages", is_estimate=True) from None
    except ChatTemplateError as error:
        raise refuse("messages", f"cannot be rendered: {error}") from error
    except ValueError:
        raise refuse("messages", "hold text that cannot be tokenized.") from None
    bos = model.tokenizer.bos_token_id
    return [bos, *ids] if add_special_tokens and bos is not None else ids


def _plain(message: Message) -> dict[str, object]:
    """What the template may see of a message. Calls without content have the empty content."""
    plain: dict[str, object] = {"role": message.role, "content": message.content or ""}
    if message.name is not None:
        plain["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    if isinstance(message, AssistantMessage) and message.thought:
        plain["reasoning_content"] = message.thought
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _plain_call(call: SentCall) -> dict[str, object]:
    function_call = call.as_function_call() if isinstance(call, CustomCall) else call
    return function_call.model_dump()
