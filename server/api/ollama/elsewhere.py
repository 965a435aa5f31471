"""What Ollama does to models and this server does not: each is refused with what to do instead.

A server's models are its operator's. Nothing that a caller sends is written to a disk here, and
nothing is fetched for one.
"""

from collections.abc import Callable, Coroutine

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from thirdeye.server.errors import InvalidRequest

INSTEAD = {
    "/api/pull": "fetch a model on the server's machine with 'thirdeye pull MODEL', and start "
    "'thirdeye serve MODEL'",
    "/api/push": "publish a model with the tools of its hub",
    "/api/create": "start 'thirdeye serve MODEL', with '--chat-template' for another template, and "
    "send 'system' and 'options' with each request",
    "/api/copy": "give the model another name with '--served-model-name' where the server is "
    "started",
    "/api/delete": "delete a model on the server's machine, with 'thirdeye rm MODEL'",
    "/api/blobs/{digest}": "put the file on the server's machine, and start 'thirdeye serve "
    "FILE.gguf'",
}
METHODS = ["POST", "DELETE", "GET"]  # as Ollama's clients send them; HEAD is a GET here


def ollama_refusals() -> APIRouter:
    router = APIRouter()
    for path, instead in INSTEAD.items():
        router.add_api_route(
            path, refusing(path, instead), methods=METHODS, include_in_schema=False
        )
    return router


def refusing(path: str, instead: str) -> Callable[[Request], Coroutine[None, None, Response]]:
    async def refuse_here(_: Request) -> Response:
        raise InvalidRequest(
            f"'{path.partition('/{')[0]}' is not served here: this server has the models that "
            f"it was started with. Instead, {instead}.",
            code="unsupported_operation",
        )

    return refuse_here
