"""`POST /v1/load_lora_adapter`, `/v1/unload_lora_adapter`: adapters come and go under vLLM's names,
while others stream. For operators."""

import asyncio

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from thirdeye.server.api.http.documented import documented
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.state.context import Context
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.errors import engine_down


class LoadAdapterRequest(Strict):
    lora_name: str
    lora_path: str = Field(min_length=1, max_length=4096)
    load_inplace: bool = False


class UnloadAdapterRequest(Strict):
    lora_name: str


def adapter_routes(context: Context) -> APIRouter:
    router = APIRouter()
    running: set[asyncio.Task[object]] = set()  # that go on when their caller has left

    @router.post(
        "/v1/load_lora_adapter",
        **documented("Operations", LoadAdapterRequest, media_type="text/plain"),
    )
    async def load(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, LoadAdapterRequest)
        loading = asyncio.ensure_future(
            model.adapters.load(
                engine,
                body.lora_name,
                body.lora_path,
                model.names,
                is_replacing=body.load_inplace,
            )
        )
        running.add(loading)
        loading.add_done_callback(running.discard)
        try:
            await asyncio.shield(loading)
        except EngineDead:
            raise engine_down(engine.restart_eta) from None
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @router.post(
        "/v1/unload_lora_adapter",
        **documented("Operations", UnloadAdapterRequest, media_type="text/plain"),
    )
    async def unload(request: Request) -> Response:
        engine, model = context.state.serving()
        body = await context.bodies.read(request, UnloadAdapterRequest)
        model.adapters.unload(engine, body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    return router
