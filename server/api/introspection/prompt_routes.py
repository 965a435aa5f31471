"""What the model really sees of a request: its prompt as text and ids, and how long that is; and
what the server is set to, as llama.cpp's clients ask for it.

    POST /apply-template, POST /v1/chat/completions/render     the prompt of a chat request
    POST /v1/chat/completions/input_tokens                     its length
    GET /props                                                 context, slots, template

Nothing is computed by the model, and what does not fit is shown all the same.
"""

import asyncio

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.field_rules.renamed_fields import renaming_fields
from thirdeye.server.api.generation.request_rules import check_common, truncate
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.openai.as_chat import prompt_ids
from thirdeye.server.api.openai.chat import check_chat
from thirdeye.server.api.openai.schema import ChatRequest
from thirdeye.server.api.openai.tools.old_functions import names_of
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.text.detokenize import text_of


class RenderedPrompt(Struct):
    """`prompt` is the text of the ids, special tokens as they are spelled."""

    prompt: str
    prompt_token_ids: list[Count]
    count: Count


class InputTokens(Struct):
    input_tokens: Count


class GenerationSettings(Struct):
    n_ctx: Count


class ServerProps(Struct, kw_only=True):
    """llama.cpp's, as far as they mean something here."""

    default_generation_settings: GenerationSettings
    total_slots: Count
    model_alias: str
    chat_template: str | None
    build_info: str


def prompt_routes(context: Context) -> APIRouter:
    router = APIRouter()

    async def asked(request: Request) -> tuple[list[int], ServedModel]:
        _, model = context.state.serving()
        body = await context.bodies.read(request, ChatRequest)
        model.check_name(body.model)
        check_chat(body)
        check_common(body, model)
        with renaming_fields(names_of(body)):
            ids = await prompt_ids(body, model)
        longest = body.max_completion_tokens or body.max_tokens
        kept = truncate(ids, body.truncate_prompt_tokens, longest, model.max_model_len)
        return kept, model

    @router.post("/apply-template", **documented("Tokens", ChatRequest, answer=RenderedPrompt))
    @router.post(
        "/v1/chat/completions/render",
        **documented("Tokens", ChatRequest, answer=RenderedPrompt),
    )
    async def render(request: Request) -> Response:
        ids, model = await asked(request)
        text = await asyncio.to_thread(text_of, ids, model.tokenizer)
        return json_response(RenderedPrompt(text, ids, len(ids)))

    @router.post(
        "/v1/chat/completions/input_tokens",
        **documented("Tokens", ChatRequest, answer=InputTokens),
    )
    async def count(request: Request) -> Response:
        ids, _ = await asked(request)
        return json_response(InputTokens(len(ids)))

    @router.get("/props", **documented("Operations", answer=ServerProps))
    async def props() -> Response:
        engine, model = context.state.serving()
        found = ServerProps(
            default_generation_settings=GenerationSettings(model.max_model_len),
            total_slots=engine.info.max_num_seqs,
            model_alias=model.names[0],
            chat_template=None if model.template is None else model.template.source,
            build_info=f"thirdeye {context.config.version}",
        )
        return json_response(found)

    return router
