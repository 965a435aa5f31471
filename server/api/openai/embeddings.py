"""`POST /v1/embeddings`: texts in, one vector of length 1 for each out.

The vector is the direction of the mean of the model's final hidden states (behind the final norm)
over all tokens of the text. A causal model was trained to continue text, not to compare it: these
vectors tell related texts from unrelated ones, and a model trained for embeddings does it better.
They go through the same scheduler as answers, in chunks, and are equal bit for bit in any mix.
"""

import base64
import struct
from typing import Literal

from fastapi import APIRouter
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.generation.plan import SharedTerms, plan
from thirdeye.server.api.generation.request_rules import (
    check_context,
    check_prompt_ids,
    encode_raw,
    refuse,
    truncate,
)
from thirdeye.server.api.generation.respond import admit, answer_whole
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.openai.schema import EmbeddingRequest
from thirdeye.server.api.state.answer_parts import AnswerTimings
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.api.state.usage import Tally
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.text.events import TextEvent

# Of an answer's vectors together: each is up to 23 bytes as text, and 32 while it is gathered. Two
# thousand texts have vectors of a thousand numbers each, a thousand have 2,048.
MAX_NUMBERS = 2**21

_PREFILL_ONLY = SamplingParams(max_tokens=0)


class EmbeddingEntry(Struct, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: Count
    embedding: list[float] | str  # a string is base64 of little-endian float32


class EmbeddingUsage(Struct):
    prompt_tokens: Count
    total_tokens: Count


class Embeddings(Struct, kw_only=True):
    """OpenAI's list of embeddings, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[EmbeddingEntry]
    model: str
    usage: EmbeddingUsage
    timings: AnswerTimings | UnsetType = UNSET


def embedding_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.post("/embeddings", include_in_schema=False)
    @router.post("/v1/embeddings", **documented("Embeddings", EmbeddingRequest, answer=Embeddings))
    async def create_embedding(request: Request) -> Response:
        _, model = context.state.serving()
        body = await context.bodies.read(request, EmbeddingRequest)
        model.check_name(body.model)
        if body.truncate_prompt_tokens == 0:
            raise refuse("truncate_prompt_tokens", "must be at least 1, or -1 for what fits.")
        check_prompt_ids(body.input, model, "input")
        check_dimensions(body.dimensions, model)
        generation = await plan_embeddings(body, model, lifetime_of(request).caller)
        tally = generation.tally()
        run = admit(request, context, generation, tally)
        return await answer_whole(
            request, run, EmbeddingShape(body, generation.model, tally), tally
        )

    return router


def check_dimensions(wanted: int | None, model: ServedModel) -> None:
    """Raises `InvalidRequest` for a number other than what vectors have anyway."""
    width = model.info.hidden_size
    if wanted not in (None, width):
        rule = f"must be {width}, got {wanted}: a causal model's hidden states cannot be shortened."
        raise refuse("dimensions", rule, "unsupported_value")


def check_size(num_inputs: int, model: ServedModel) -> None:
    """Raises `InvalidRequest` for vectors that together are more than one answer holds."""
    width = model.info.hidden_size
    if num_inputs > 1 and num_inputs * width > MAX_NUMBERS:
        most = max(1, MAX_NUMBERS // width)
        rule = (
            f"must hold at most {most:,} texts for vectors of {width:,} numbers (an answer holds "
        )
        rule += f"{MAX_NUMBERS:,}), got {num_inputs:,}: send them in several requests."
        raise refuse("input", rule, "array_above_max_length")


async def plan_embeddings(body: EmbeddingRequest, model: ServedModel, caller: str) -> Generation:
    """One engine request for each input. Raises `InvalidRequest` for what does not fit."""
    check_size(len(body.input), model)
    cuts_ends, num_kept = body.truncate in (True, "END"), body.truncate_prompt_tokens
    if num_kept is not None and body.truncate not in (False, "NONE"):
        raise refuse("truncate", "cannot go with 'truncate_prompt_tokens'.")
    if body.truncate == "START":
        num_kept = -1
    prompts: list[list[int]] = []
    num_truncated = 0
    for i, text in enumerate(body.input):
        param = "input" if len(body.input) == 1 else f"input[{i}]"
        ids = await encode_raw(
            text,
            model,
            param,
            add_special_tokens=body.add_special_tokens,
            is_bounded=num_kept is None and not cuts_ends,
            is_whole=True,
        )
        kept = ids[: model.max_model_len] if cuts_ends else ids
        prompt = truncate(kept, num_kept, 0, model.max_model_len)
        check_context(len(prompt), model.max_model_len, param, reserve=0)
        num_truncated += len(ids) - len(prompt)
        prompts.append(prompt)
    terms = SharedTerms(
        caller=caller,
        priority=body.priority,
        adapter=model.adapter_of(body.model),
        is_embedding=True,
    )
    return plan(
        "embd-",
        model.resolve(body.model),
        prompts,
        [_PREFILL_ONLY] * len(prompts),
        terms,
        num_truncated=num_truncated,
        notes={"user": body.user} if body.user else {},
    )


class EmbeddingShape:
    """Collects the vectors of one request's inputs."""

    def __init__(self, body: EmbeddingRequest, model: str, tally: Tally) -> None:
        self._model = model
        self._is_base64 = body.encoding_format == "base64"
        self._tally = tally
        self._vectors: dict[int, list[float]] = {}

    def add(self, index: int, event: TextEvent) -> None:
        assert event.embedding is not None, "a request for an embedding ends with it"
        self._vectors[index] = event.embedding

    def whole(self) -> Embeddings:
        num_tokens = self._tally.num_prompt_tokens
        return Embeddings(
            data=[self._entry(i, self._vectors[i]) for i in sorted(self._vectors)],
            model=self._model,
            usage=EmbeddingUsage(num_tokens, num_tokens),
            timings=self._tally.timings() or UNSET,
        )

    def _entry(self, index: int, vector: list[float]) -> EmbeddingEntry:
        return EmbeddingEntry(index=index, embedding=packed(vector) if self._is_base64 else vector)


def packed(vector: list[float]) -> str:
    """Base64 of little-endian float32, as OpenAI's clients unpack it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
