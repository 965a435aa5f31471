"""`POST /v1/chat/completions`: messages in, an assistant message out, whole or as chunks."""

import asyncio
from collections.abc import Iterator, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import (
    ChunkWriter,
    Head,
    JsonObject,
    encode,
    optional,
    whole_answer,
)
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.context import Context
from thirdeye.server.api.generation.grammar_cache import Grammars
from thirdeye.server.api.generation.plan import AnswerFields, plan_answer
from thirdeye.server.api.generation.request_rules import (
    check_common,
    constraint_of,
    context_exceeded,
    refuse,
)
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.generation.server_state import ServedModel
from thirdeye.server.api.generation.usage import Tally
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.logprob_lists import chat_logprobs, prompt_logprobs
from thirdeye.server.api.openai.schema import (
    AssistantMessage,
    ChatRequest,
    Message,
    TokenizeRequest,
    ToolMessage,
)
from thirdeye.server.api.openai.tool_calls import delta_of, whole_calls
from thirdeye.server.api.openai.tool_use import compile_tools, tool_use
from thirdeye.server.api.receipts.receipt_writer import ReceiptWriter
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.requests.unsupported_fields import REFUSED_IN_CHAT
from thirdeye.server.errors import BadRequest
from thirdeye.server.text.events import TextEvent, TextToken
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.server.text.templates.completion_prompt import PromptTooLong
from thirdeye.server.text.tokenizer import Tokenizer
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool
from thirdeye.server.text.tools.tool_prompt import fit


def chat_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/chat/completions", include_in_schema=False)
    @router.post(
        "/v1/chat/completions",
        **documented("Chat", ChatRequest, answer="ChatCompletion", streams="ChatCompletionChunk"),
    )
    async def create_chat_completion(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, ChatRequest, REFUSED_IN_CHAT)
        check_ceilings(context.config, body.stop, body.n)
        model.check_name(body.model)
        check_common(body, model)
        check_chat(body)
        generation = await plan_chat(body, model, context.grammars, lifetime_of(request).caller)
        tally = generation.tally(ReceiptWriter(generation, model) if body.receipt else None)
        shape = ChatShape(body, generation, model, tally)
        return await respond(request, context, generation, shape, tally, stream=body.stream)

    return router


def check_chat(body: ChatRequest) -> None:
    """Rules between chat's own fields."""
    if body.top_logprobs is not None and not body.logprobs:
        raise refuse("top_logprobs", "needs 'logprobs': true.")
    both = body.max_tokens is not None and body.max_completion_tokens is not None
    if both and body.max_tokens != body.max_completion_tokens:
        raise refuse("max_tokens", "must equal 'max_completion_tokens' when both are given.")
    check_continuation(body, body.messages)


def check_continuation(body: ChatRequest | TokenizeRequest, messages: Sequence[Message]) -> None:
    """Either a new message is begun, or the assistant's last one goes on."""
    if not body.continue_final_message:
        return
    if "add_generation_prompt" in body.model_fields_set and body.add_generation_prompt:
        raise refuse("continue_final_message", "cannot go with 'add_generation_prompt': true.")
    if messages[-1].role != "assistant":
        raise refuse("continue_final_message", "needs an assistant message at the end.")


async def plan_chat(
    body: ChatRequest,
    model: ServedModel,
    grammars: Grammars,
    caller: str,
    id_prefix: str = "chatcmpl-",
) -> Generation:
    """The engine requests of a chat request. Raises `BadRequest` for what does not fit."""
    tools = tool_use(body, model)
    content = await grammars.of(*constraint_of(body))
    grammar = await compile_tools(tools, content, grammars)
    ids = await encode_messages(
        body.messages,
        model,
        tools=tools.shown_tools() if tools else (),
        add_special_tokens=body.add_special_tokens,
        add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        continue_final_message=body.continue_final_message,
        is_bounded=body.truncate_prompt_tokens is None,
    )
    is_old_name = body.max_completion_tokens is None
    own = AnswerFields(
        id_prefix=id_prefix,
        prompt_param="messages",
        max_tokens=body.max_tokens if is_old_name else body.max_completion_tokens,
        max_tokens_param="max_tokens" if is_old_name else "max_completion_tokens",
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        prompt_logprobs=body.prompt_logprobs,
        lists_tokens=body.logprobs or body.return_token_ids,
        grammar=grammar,
        parse_tool_calls=tools.may_call if tools else False,
    )
    return plan_answer(body, own, [ids], model, caller)


async def encode_messages(
    messages: Sequence[Message],
    model: ServedModel,
    *,
    tools: Sequence[Tool] = (),
    add_special_tokens: bool,
    add_generation_prompt: bool,
    continue_final_message: bool,
    is_bounded: bool = True,
) -> list[int]:
    """Token ids of a conversation, made in a thread. What cannot fit is refused before that."""
    template = model.template
    if template is None:
        raise BadRequest(
            "This model has no chat template: use /v1/completions.",
            param="messages",
            code="unsupported_parameter",
        )
    context = model.max_model_len

    def encode_in_thread() -> list[int]:
        definitions = [tool.definition for tool in tools] or None
        fitted, shown = fit([_plain(message) for message in messages], definitions, template)
        return template.encode(
            fitted,
            tools=shown,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            max_tokens=context if is_bounded else None,
        )

    try:
        ids = await asyncio.to_thread(encode_in_thread)
    except PromptTooLong as error:
        has = f"has at least {error.num_tokens_at_least} tokens"
        raise context_exceeded(has, context, "messages") from None
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
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    return plain


class ChatShape:
    """A chat answer: one message for each choice, or deltas of it."""

    def __init__(
        self, body: ChatRequest, generation: Generation, model: ServedModel, tally: Tally
    ) -> None:
        self._choice_mode = body.tool_choice.mode if body.tool_choice else ChoiceMode.AUTO
        self._with_logprobs = body.logprobs
        self._as_ids = body.return_tokens_as_token_ids
        self._with_ids = body.return_token_ids
        self._with_prompt_logprobs = body.prompt_logprobs is not None
        self._generation = generation
        self._tokenizer: Tokenizer = model.tokenizer
        self._tally = tally
        self._tier = "default" if body.service_tier else None
        self._fingerprint = model.fingerprint
        head = Head.of(generation, "chat.completion.chunk", model.fingerprint, self._tier)
        has_only_text = not (self._with_logprobs or self._with_ids)
        template = (
            b'{"index":%d,"delta":{"content":',
            b'},"logprobs":null,"finish_reason":null}',
        )
        self._writer = ChunkWriter(
            head, body.stream_options, tally, template if has_only_text else None
        )
        self._started: set[int] = set()
        self._events: list[list[TextEvent]] = [[] for _ in generation.requests]

    def chunks(self, index: int, event: TextEvent) -> Iterator[bytes]:
        """Role first, then content, then the empty delta that says why the choice ended."""
        if event.progress is not None:
            yield self._writer.progress_chunk(index, event.progress)
            return
        if index not in self._started:
            yield self._role_chunk(index)
        is_last = event.finish_reason is not None
        is_only_text = event.text and not event.tool_calls and not is_last
        if is_only_text and (chunk := self._writer.text_chunk(index, event.text)):
            yield chunk
            return
        tokens, hidden = _split(event) if is_last else (event.tokens, [])
        deltas = list(_deltas(event))
        if not deltas and tokens and not is_last and (self._with_logprobs or self._with_ids):
            deltas = [b"{}"]
        for delta in deltas:
            yield self._writer.chunk(self._choice(index, delta, tokens))
            tokens = []  # they stand with the first
        if is_last:
            yield self._writer.chunk(self._choice(index, b"{}", hidden, event))

    def last_chunks(self) -> Iterator[bytes]:
        return self._writer.usage_chunk()

    def _role_chunk(self, index: int) -> bytes:
        prompt_ids = None
        if self._with_ids and not self._started:
            prompt_ids = self._generation.prompts[0]
        self._started.add(index)
        only_calls = self._choice_mode in (ChoiceMode.REQUIRED, ChoiceMode.NAMED)
        content = b"null" if only_calls else b'""'
        delta = b'{"role":"assistant","content":%b,"refusal":null}' % content
        choice = b'{"index":%d,"delta":%b,"logprobs":null,"finish_reason":null}' % (index, delta)
        return self._writer.chunk(choice, optional(b"prompt_token_ids", prompt_ids))

    def _choice(
        self, index: int, delta: bytes, tokens: list[TextToken], end: TextEvent | None = None
    ) -> bytes:
        parts = [b'{"index":%d,"delta":%b,"logprobs":' % (index, delta)]
        parts.append(encode(self._logprobs(tokens)) if tokens else b"null")
        parts.append(b',"finish_reason":' + encode(self._finish_reason(end) if end else None))
        parts.append(optional(b"stop_reason", end.stop_reason if end else None))
        if self._with_ids:
            parts.append(optional(b"token_ids", [token.token_id for token in tokens]))
        return b"".join([*parts, b"}"])

    def _finish_reason(self, end: TextEvent) -> str | None:
        """As OpenAI has it: a call that was asked for by name ends with `stop`."""
        is_call = end.ended_in_tool_calls and self._choice_mode is not ChoiceMode.NAMED
        return "tool_calls" if is_call else end.finish_reason

    def _logprobs(self, tokens: list[TextToken]) -> JsonObject | None:
        if not self._with_logprobs:
            return None
        return chat_logprobs(tokens, self._tokenizer, as_ids=self._as_ids)

    def add(self, index: int, event: TextEvent) -> None:
        self._events[index].append(event)

    def whole(self) -> JsonObject:
        head = Head.of(self._generation, "chat.completion", self._fingerprint, self._tier)
        choices = [self._whole_choice(i, events) for i, events in enumerate(self._events)]
        answer = whole_answer(head, choices, self._tally)
        prompt = self._generation.prompts[0]
        if self._with_ids:
            answer["prompt_token_ids"] = prompt
        if self._with_prompt_logprobs:
            entries = self._events[0][0].prompt_logprobs or []
            answer["prompt_logprobs"] = prompt_logprobs(prompt, entries, self._tokenizer)
        return answer

    def _whole_choice(self, index: int, events: list[TextEvent]) -> JsonObject:
        tokens = [token for event in events for token in event.tokens]
        last = events[-1]
        choice: JsonObject = {
            "index": index,
            "message": _message(events),
            "logprobs": self._logprobs(tokens),
            "finish_reason": self._finish_reason(last),
        }
        if last.stop_reason is not None:
            choice["stop_reason"] = last.stop_reason
        if self._with_ids:
            choice["token_ids"] = [token.token_id for token in tokens]
        return choice


def _message(events: Sequence[TextEvent]) -> JsonObject:
    content = "".join(event.text for event in events)
    calls = whole_calls(delta for event in events for delta in event.tool_calls)
    message: JsonObject = {
        "role": "assistant",
        "content": content if content or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    return message | ({"tool_calls": calls} if calls else {})


def _deltas(event: TextEvent) -> Iterator[bytes]:
    """What an event adds to the message: text, then the heads of calls and pieces of arguments."""
    if event.text:
        yield b'{"content":' + encode(event.text) + b"}"
    yield from map(delta_of, event.tool_calls)


def _split(event: TextEvent) -> tuple[list[TextToken], list[TextToken]]:
    """The last event's tokens: those of its text, and the hidden ones at its end (EOS, stop id)."""
    end = len(event.tokens) if event.text or event.tool_calls else 0
    while end and event.tokens[end - 1].raw is None:
        end -= 1
    return event.tokens[:end], event.tokens[end:]
