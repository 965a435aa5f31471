"""`GET /v1/models`, `GET /v1/models/{id}`: the model under each of its names; ids may hold `/`."""

from typing import Literal

from fastapi import APIRouter
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import Count, json_response
from thirdeye.server.api.state.context import Context
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.api.state.server_state import Capability, ServedModel, capabilities_of

ModelStateName = Literal["absent", "loading", "ready", "leaving", "asleep", "failed"]


class ModelCard(Struct, kw_only=True):
    """OpenAI's model object, with the keys of vLLM's that benchmark tools read."""

    id: str
    object: Literal["model"] = "model"
    created: Count  # unix seconds
    owned_by: Literal["thirdeye"] = "thirdeye"
    root: str
    parent: str | None = None  # of an adapter: the model that it changes, and `root` its folder
    max_model_len: Count
    state: ModelStateName
    progress: str | UnsetType = UNSET  # of a load
    size: Count  # bytes of the tensors, as they are stored
    capabilities: list[Capability]
    generation_defaults: GenerationDefaults  # the model's own, for requests that do not say


class ModelList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelCard]


def model_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/models", include_in_schema=False)
    @router.get("/v1/models", **documented("Models", answer=ModelList))
    async def list_models() -> Response:
        _, model = context.state.serving()
        names = (*model.names, *model.adapters.names)
        return json_response(ModelList(data=[card_of(name, model) for name in names]))

    @router.get(
        "/v1/models/{model_id:path}",
        **documented("Models", answer=ModelCard, path_parameter="model_id"),
    )
    async def retrieve_model(request: Request) -> Response:
        _, model = context.state.serving()
        name = request.path_params["model_id"]
        return json_response(card_of(model.resolve(name or "/"), model))

    return router


def card_of(
    name: str,
    model: ServedModel,
    state: ModelStateName = "ready",
    progress: str | UnsetType = UNSET,
) -> ModelCard:
    adapter = model.adapters.get(name)
    return ModelCard(
        id=name,
        created=model.created if adapter is None else adapter.created,
        root=model.names[0] if adapter is None else adapter.path,
        parent=None if adapter is None else model.names[0],
        max_model_len=model.max_model_len,
        state=state,
        progress=progress,
        size=model.info.num_bytes if adapter is None else adapter.num_bytes,
        capabilities=capabilities_of(model),
        generation_defaults=model.defaults,
    )
