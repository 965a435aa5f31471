"""Ollama's `POST /api/embed` and the older `/api/embeddings`: the vectors of `/v1/embeddings`."""

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.field_rules.renamed_fields import FieldNames, renaming_fields
from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.respond import admit, answer_whole
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.ollama.answers import nanoseconds
from thirdeye.server.api.ollama.schema import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaRequest,
)
from thirdeye.server.api.openai.embeddings import check_dimensions, plan_embeddings
from thirdeye.server.api.openai.schema import EmbeddingRequest
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.text.events import TextEvent

PROMPT: FieldNames = [(r"input", "prompt")]


class OllamaVectors(Struct):
    """One for each input, of length 1. Durations are nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: Count
    load_duration: Count
    prompt_eval_count: Count


class OllamaVector(Struct):
    embedding: list[float]


def ollama_embedding_routes(context: Context) -> APIRouter:
    router = APIRouter()
    to_embed = documented("Ollama", OllamaEmbedRequest, answer=OllamaVectors, error="OllamaError")
    to_embeddings = documented(
        "Ollama", OllamaEmbeddingsRequest, answer=OllamaVector, error="OllamaError"
    )

    @router.post("/api/embed", **to_embed)
    async def embed(request: Request) -> Response:
        context.state.serving()
        body = await context.bodies.read(request, OllamaEmbedRequest)
        names = ("input", "truncate", "dimensions")
        return await vectors(request, context, body, {name: getattr(body, name) for name in names})

    @router.post("/api/embeddings", **to_embeddings)
    async def embeddings(request: Request) -> Response:
        context.state.serving()
        body = await context.bodies.read(request, OllamaEmbeddingsRequest)
        with renaming_fields(PROMPT):
            return await vectors(request, context, body, {"input": body.prompt}, is_one=True)

    return router


async def vectors(
    request: Request,
    context: Context,
    body: OllamaRequest,
    inputs: JsonObject,
    is_one: bool = False,
) -> Response:
    _, model = context.state.serving()
    model.check_name(body.model)
    ours = parse(EmbeddingRequest, {"model": body.model} | inputs)
    caller = lifetime_of(request).caller
    check_dimensions(ours.dimensions, model)
    generation = await plan_embeddings(ours, model, caller)
    tally = generation.tally()
    run = admit(request, context, generation, tally)
    shape = OllamaEmbeddingShape(body.model or generation.model, tally, is_one)
    return await answer_whole(request, run, shape, tally)


class OllamaEmbeddingShape:
    """Collects the vectors of one request's inputs."""

    def __init__(self, model: str, tally: Tally, is_one: bool) -> None:
        self._model, self._tally, self._is_one = model, tally, is_one
        self._vectors: dict[int, list[float]] = {}

    def add(self, index: int, event: TextEvent) -> None:
        assert event.embedding is not None, "a request for an embedding ends with it"
        self._vectors[index] = event.embedding

    def whole(self) -> OllamaVectors | OllamaVector:
        if self._is_one:
            return OllamaVector(self._vectors[0])
        return OllamaVectors(
            model=self._model,
            embeddings=[self._vectors[i] for i in sorted(self._vectors)],
            total_duration=nanoseconds(self._tally.final_timings().total_ms),
            load_duration=0,
            prompt_eval_count=self._tally.num_prompt_tokens,
        )
