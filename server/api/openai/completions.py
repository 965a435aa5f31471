"""`POST /v1/completions`: prompts in, their continuations out, whole or as chunks."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import AnswerFields, check_room, plan_answer
from thirdeye.server.api.generation.request_rules import (
    check_common,
    check_prompt_ids,
    constraint_of,
    encode_raw,
    refuse,
)
from thirdeye.server.api.generation.respond import respond
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.completion_format import CompletionFormat, TextCompletion
from thirdeye.server.api.openai.schema import CompletionRequest
from thirdeye.server.api.receipts.receipt_writer import ReceiptWriter
from thirdeye.server.api.requests.operator_limits import check_ceilings
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.grammar_cache import Grammars
from thirdeye.server.api.state.server_state import ServedModel


def completion_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/completions", include_in_schema=False)
    @router.post(
        "/v1/completions",
        **documented(
            "Completions", CompletionRequest, answer=TextCompletion, streams="CompletionChunk"
        ),
    )
    async def create_completion(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, CompletionRequest)
        check_ceilings(context.config, body.stop, body.n, num_prompts=len(body.prompt))
        model.check_name(body.model)
        check_common(body, model)
        check_completion(body, model)
        generation = await plan_completion(
            body, model, context.grammars, lifetime_of(request).caller
        )
        tally = generation.tally(ReceiptWriter(generation, model) if body.receipt else None)
        form = CompletionFormat(body, generation, model, tally)
        return await respond(request, context, generation, form, tally, stream=body.stream)

    return router


def check_completion(body: CompletionRequest, model: ServedModel) -> None:
    """Rules between the fields of completions."""
    if body.best_of is not None and body.best_of != body.n:
        raise refuse("best_of", f"must equal 'n' ({body.n}).", "unsupported_value")
    if body.max_tokens == 0 and not body.echo:
        raise refuse(
            "max_tokens", "must be at least 1 without 'echo', got 0.", "integer_below_min_value"
        )
    check_prompt_ids(body.prompt, model, "prompt")
    if body.answer_token_ids and (body.echo or len(body.prompt) > 1):
        other = "'echo'" if body.echo else "'prompt' of several texts"
        raise refuse("answer_token_ids", f"cannot go with {other}: one answer alone goes on.")


async def plan_completion(
    body: CompletionRequest, model: ServedModel, grammars: Grammars, caller: str
) -> Generation:
    """The engine requests of a completion request. Raises `InvalidRequest` if too large."""
    body = model.defaults.fill(body)
    encoded = [
        await encode_raw(
            prompt,
            model,
            "prompt",
            add_special_tokens=body.add_special_tokens,
            is_bounded=body.truncate_prompt_tokens is None,
        )
        for prompt in body.prompt
    ]
    check_room(body, encoded, model, body.max_tokens, "prompt")
    grammar = await grammars.of(*constraint_of(body), caller)
    own = AnswerFields(
        id_prefix="cmpl-",
        prompt_param="prompt",
        max_tokens=body.max_tokens,
        max_tokens_param="max_tokens",
        is_default_limit="max_tokens" not in body.model_fields_set,
        logprobs=body.logprobs,
        prompt_logprobs=_prompt_logprobs(body),
        lists_tokens=body.logprobs is not None or body.return_token_ids or body.echo,
        grammar=grammar,
    )
    return plan_answer(body, own, encoded, model, caller)


def _prompt_logprobs(body: CompletionRequest) -> int | None:
    """What the engine must score of the prompt: for `echo` with logprobs, `prompt_logprobs`."""
    wanted = [body.prompt_logprobs, body.logprobs if body.echo else None]
    if body.max_tokens == 0:
        wanted.append(0)  # the engine takes a request without tokens only to score its prompt
    return max((k for k in wanted if k is not None), default=None)
