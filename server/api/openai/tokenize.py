"""`POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`, in vLLM's shapes.

Evaluation tools take this for a tokenizer of their own.
"""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.thinking import checked_variables
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.openai.chat import check_continuation, continues, encode_messages
from thirdeye.server.api.openai.logprob_lists import token_name
from thirdeye.server.api.openai.schema import DetokenizeRequest, TokenizeRequest
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.errors import InvalidRequest
from thirdeye.server.text.detokenize import text_of
from thirdeye.server.text.templates.completion_prompt import encode_prompt
from thirdeye.server.text.tokenizer import TokenizerLike


class TokenizedText(Struct):
    count: Count
    max_model_len: Count
    tokens: list[Count]
    token_strs: list[str] | None


class Text(Struct):
    prompt: str


class TokenizerInfo(Struct, kw_only=True):
    """The special tokens by their roles."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None = None  # nothing is ever padded here
    chat_template: str | None


def token_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/tokenize", **documented("Tokens", TokenizeRequest, answer=TokenizedText))
    async def tokenize(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, TokenizeRequest)
        model.check_name(body.model)
        ids = await encode_body(body, model)
        names = None
        if body.return_token_strs:
            names = await asyncio.to_thread(_names, ids, model.tokenizer)
        return json_response(TokenizedText(len(ids), model.max_model_len, ids, names))

    @router.post("/detokenize", **documented("Tokens", DetokenizeRequest, answer=Text))
    async def detokenize(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, DetokenizeRequest)
        model.check_name(body.model)
        model.check_token_ids(body.tokens, "tokens")
        text = await asyncio.to_thread(text_of, body.tokens, model.tokenizer)
        return json_response(Text(text))

    @router.get("/tokenizer_info", **documented("Tokens", answer=TokenizerInfo))
    async def tokenizer_info() -> Response:
        _, model = context.state.serving()
        return json_response(tokenizer_info_of(model))

    return router


def tokenizer_info_of(model: ServedModel) -> TokenizerInfo:
    """Of several tokens that end an answer, the one with the lowest id."""
    tokenizer = model.tokenizer
    literals: dict[int | None, str] = {
        token_id: text for text, token_id in tokenizer.special_tokens.items()
    }
    eos_token_id = min(tokenizer.eos_token_ids, default=None)
    return TokenizerInfo(
        tokenizer_class=type(tokenizer).__name__,
        bos_token=literals.get(tokenizer.bos_token_id),
        eos_token=literals.get(eos_token_id),
        chat_template=None if model.template is None else model.template.source,
    )


def _names(token_ids: Sequence[int], tokenizer: TokenizerLike) -> list[str]:
    return [token_name(token_id, tokenizer) for token_id in token_ids]


async def encode_body(body: TokenizeRequest, model: ServedModel) -> list[int]:
    """Token ids of a prompt or of messages. Raises `InvalidRequest`."""
    if body.prompt is not None and body.messages is not None:
        raise refuse("messages", "cannot be given together with 'prompt'.")
    if body.tools and body.messages is None:
        raise refuse("tools", "needs 'messages'.")
    if body.messages is not None:
        check_continuation(body, body.messages)
        goes_on = continues(body, body.messages)
        return await encode_messages(
            body.messages,
            model,
            tools=body.tools,
            add_special_tokens=bool(body.add_special_tokens),
            add_generation_prompt=body.add_generation_prompt and not goes_on,
            continue_final_message=goes_on,
            variables=checked_variables(body.chat_template_kwargs, model),
            is_bounded=False,
        )
    if body.prompt is None:
        raise InvalidRequest(
            "Missing required parameter 'prompt' (or 'messages').",
            param="prompt",
            code="missing_required_parameter",
        )
    if not body.prompt:
        return []
    add_special_tokens = body.add_special_tokens is not False
    try:
        return await asyncio.to_thread(
            encode_prompt, body.prompt, model.tokenizer, add_special_tokens
        )
    except ValueError:
        raise refuse("prompt", "holds text that cannot be tokenized.") from None
