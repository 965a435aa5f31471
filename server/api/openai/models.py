"""`GET /v1/models`, `GET /v1/models/{id}`: the model under each of its names; ids may hold `/`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.api.generation.context import Context
from thirdeye.server.api.generation.server_state import ServedModel
from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.http.json_response import json_response


def model_routes(context: Context) -> APIRouter:
    router = APIRouter()

    @router.get("/models", include_in_schema=False)
    @router.get("/v1/models", **documented("Models", answer="ModelList"))
    async def list_models() -> Response:
        _, model = context.state.serving()
        data = [describe(name, model) for name in model.names]
        return json_response({"object": "list", "data": data})

    @router.get(
        "/v1/models/{model_id:path}",
        **documented("Models", answer="Model", path_parameter="model_id"),
    )
    async def retrieve_model(request: Request) -> Response:
        _, model = context.state.serving()
        name = request.path_params["model_id"]
        model.check_name(name)
        return json_response(describe(name, model))

    return router


def describe(name: str, model: ServedModel) -> dict[str, object]:
    """OpenAI's model object, with the keys of vLLM's that benchmark tools read."""
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "thirdeye",
        "root": model.names[0],
        "parent": None,
        "max_model_len": model.max_model_len,
    }
