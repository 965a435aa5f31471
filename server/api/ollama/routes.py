"""Ollama's `POST /api/chat` and `/api/generate` over the same engine. Streams are the default.

A request becomes a chat request, or with `raw` one for completions (`as_ours`); what comes out is
in `events`. An empty one is how clients have a model loaded: it is, and nothing is generated.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import unix_seconds
from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.ollama.answers import (
    AnswerPiece,
    OllamaChatAnswer,
    OllamaTextAnswer,
    Shape,
    chat_answer,
    rfc3339,
    text_answer,
)
from thirdeye.server.api.ollama.as_ours import (
    FIELD_NAMES,
    GENERATE_NAMES,
    chat_of,
    completion_of,
    prompt_as_chat,
    unread_turns,
)
from thirdeye.server.api.ollama.events import OllamaFormat
from thirdeye.server.api.ollama.schema import (
    OllamaAsked,
    OllamaChatRequest,
    OllamaGenerateRequest,
)
from thirdeye.server.api.openai.as_chat import plan_as_chat, plan_as_completion
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel


def ollama_routes(context: Context) -> APIRouter:
    router = APIRouter()
    to_chat = documented(
        "Ollama",
        OllamaChatRequest,
        answer=OllamaChatAnswer,
        error="OllamaError",
        lines="OllamaChatLine",
    )
    to_generate = documented(
        "Ollama",
        OllamaGenerateRequest,
        answer=OllamaTextAnswer,
        error="OllamaError",
        lines="OllamaTextLine",
    )

    @router.post("/api/chat", **to_chat)
    async def chat(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, OllamaChatRequest)
        check_asked(body, context, model)
        if body.tools and not body.messages:
            raise refuse("tools", "needs 'messages'.")
        if not body.messages:
            return answer_to_nothing(body.model or model.names[0], chat_answer)
        lifetime = lifetime_of(request)
        lifetime.ignored_params.update(unread_turns(body.messages, model.reads_thoughts))
        generation = await plan_as_chat(
            chat_of(body),
            model,
            context.grammars,
            lifetime.caller,
            id_prefix="api-",
            names=FIELD_NAMES,
        )
        return await answer(request, context, body, generation, chat_answer)

    @router.post("/api/generate", **to_generate)
    async def generate(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, OllamaGenerateRequest)
        check_asked(body, context, model)
        if not body.prompt:
            return answer_to_nothing(body.model or model.names[0], text_answer)
        caller = lifetime_of(request).caller
        generation = await plan_generate(body, context, model, caller)
        return await answer(request, context, body, generation, text_answer)

    return router


def check_asked(body: OllamaAsked, context: Context, model: ServedModel) -> None:
    check_ceilings(context.config, body.options.stop, stop_param="options.stop")
    model.check_name(body.model)


async def plan_generate(
    body: OllamaGenerateRequest, context: Context, model: ServedModel, caller: str
) -> Generation:
    """A prompt by the chat template, if there is one and it is wanted."""
    if body.raw or model.template is None:
        return await plan_as_completion(
            completion_of(body), model, context.grammars, caller, names=FIELD_NAMES
        )
    return await plan_as_chat(
        *(prompt_as_chat(body), model, context.grammars, caller),
        id_prefix="api-",
        names=GENERATE_NAMES,
    )


async def answer(
    request: Request, context: Context, body: OllamaAsked, generation: Generation, shape: Shape
) -> Response:
    _, model = context.state.serving()
    tally = generation.tally()
    form = OllamaFormat(*(shape, body.model, generation, model, tally), with_logprobs=body.logprobs)
    return await respond(
        request, context, generation, form, tally, stream=body.stream, framing=form.framing
    )


def answer_to_nothing(name: str, shape: Shape, reason: str = "load") -> Response:
    """Of a request that only says that the model shall be loaded, or unloaded."""
    now = rfc3339(unix_seconds())
    about = {"model": name, "created_at": now, "done": True, "done_reason": reason}
    return json_response(shape(AnswerPiece(), **about))
