"""`POST /v1/responses`: OpenAI's newer API over the same engine, without its store.

A request becomes a chat request (`thirdeye.server.api.responses.into_chat`); what comes out is in
`thirdeye.server.api.responses.events`.
"""

from typing import Literal

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.http.sse import Framing
from thirdeye.server.api.openai.as_chat import count_as_chat, plan_as_chat
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.responses.events import ResponsesFormat
from thirdeye.server.api.responses.into_chat import as_chat, left_out, names_of
from thirdeye.server.api.responses.schema import LOGPROBS, ResponsesRequest
from thirdeye.server.api.state.context import Context


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
        lifetime.ignored_params.update(left_out(body, model.reads_thoughts))
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
        lifetime_of(request).ignored_params.update(left_out(body, model.reads_thoughts))
        count = await count_as_chat(as_chat(body), model, names_of(body))
        return json_response(ResponseInputTokens(input_tokens=count))

    return router


def check_responses(body: ResponsesRequest) -> None:
    """Rules between this dialect's own fields."""
    if body.top_logprobs and LOGPROBS not in body.include:
        raise refuse("top_logprobs", f"needs 'include': ['{LOGPROBS}'].")
