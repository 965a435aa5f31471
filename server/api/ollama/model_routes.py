"""What is served, as Ollama tells it: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`.

One model, under each of its names; it is loaded, and stays so until the server ends.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.ollama.answers import rfc3339
from thirdeye.server.api.ollama.model_cards import (
    OllamaDetails,
    OllamaModel,
    OllamaModels,
    OllamaProcesses,
    OllamaRunning,
    OllamaShown,
    OllamaVersion,
)
from thirdeye.server.api.ollama.schema import OllamaShowRequest
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.server_state import ServedModel, capabilities_of
from thirdeye.server.engine.interface.types import EngineInfo

LEVEL = "0.12.11"  # of Ollama: the edition whose API is spoken here, for clients that ask
NEVER = "9999-12-31T23:59:59Z"  # when a model is unloaded


def ollama_model_routes(context: Context) -> APIRouter:
    router = APIRouter()

    def told(answer: type[Struct]) -> dict[str, Any]:
        return documented("Ollama", answer=answer, error="OllamaError")

    @router.get("/api/tags", **told(OllamaModels))
    async def tags() -> Response:
        engine, model = context.state.serving()
        return json_response(
            OllamaModels(
                [
                    entry_of(name, model, engine.info)
                    for name in (*model.names, *model.adapters.names)
                ]
            )
        )

    @router.get("/api/ps", **told(OllamaProcesses))
    async def processes() -> Response:
        engine, model = context.state.serving()
        return json_response(OllamaProcesses([running(model, engine.info)]))

    @router.get("/api/version", **told(OllamaVersion))
    async def version() -> Response:
        return json_response(OllamaVersion(LEVEL, context.config.version))

    to_show = documented("Ollama", OllamaShowRequest, answer=OllamaShown, error="OllamaError")

    @router.post("/api/show", **to_show)
    async def show(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, OllamaShowRequest)
        model.check_name(body.model)
        return json_response(shown(model, engine.info))

    return router


def with_tag(name: str) -> str:
    """Ollama's clients look for a model by its full name."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def entry_of(name: str, model: ServedModel, engine: EngineInfo) -> OllamaModel:
    return OllamaModel(
        name=with_tag(name),
        model=with_tag(name),
        modified_at=rfc3339(model.created),
        size=model.info.num_bytes,
        digest=digest_of(model),
        details=details_of(model, engine),
    )


def running(model: ServedModel, engine: EngineInfo, expires_at: str = NEVER) -> OllamaRunning:
    size = model.info.num_bytes
    return OllamaRunning(
        name=with_tag(model.names[0]),
        model=with_tag(model.names[0]),
        size=size,
        digest=digest_of(model),
        details=details_of(model, engine),
        expires_at=expires_at,
        size_vram=size if engine.device.startswith("cuda") else 0,
        context_length=model.max_model_len,
    )


def digest_of(model: ServedModel) -> str:
    """SHA-256 of what tells the weights apart, not of a file."""
    return hashlib.sha256(model.identity.weights.encode()).hexdigest()


def details_of(model: ServedModel, engine: EngineInfo) -> OllamaDetails:
    family = model.info.architecture
    return OllamaDetails(
        parent_model="",
        format=model.info.file_format,
        family=family,
        families=[family],
        parameter_size=in_millions(engine.num_parameters),
        quantization_level=model.info.tensor_format,
    )


def in_millions(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"


def shown(model: ServedModel, engine: EngineInfo) -> OllamaShown:
    return OllamaShown(
        parameters="\n".join(f"{name:<30} {value}" for name, value in parameters_of(model)),
        template=model.template.source if model.template else "{{ prompt }}",
        details=details_of(model, engine),
        model_info=facts_of(model, engine),
        capabilities=capabilities_of(model),
        modified_at=rfc3339(model.created),
    )


def parameters_of(model: ServedModel) -> Iterator[tuple[str, object]]:
    """As in a Modelfile: a line for each stop string."""
    for name, value in model.defaults.said().items():
        if isinstance(value, tuple):
            yield from ((name, json.dumps(item)) for item in value)
        elif name != "logit_bias":  # which it has no word for
            yield name, value
    yield "num_ctx", model.max_model_len


def facts_of(model: ServedModel, engine: EngineInfo) -> JsonObject:
    """By the names that GGUF files have for them."""
    info, family = model.info, model.info.architecture
    return {
        "general.architecture": family,
        "general.basename": model.names[0],
        "general.parameter_count": engine.num_parameters,
        f"{family}.context_length": model.max_model_len,
        f"{family}.block_count": info.num_layers,
        f"{family}.embedding_length": info.hidden_size,
        f"{family}.attention.head_count": info.num_heads,
        f"{family}.attention.head_count_kv": info.num_kv_heads,
        f"{family}.vocab_size": engine.vocab_size,
    }
