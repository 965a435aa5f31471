"""The chat page at `/` and its files under `/web/`: plain pages that need no network.

Each file is read once, at start. A strict content security policy goes out with every page: own
scripts and styles only, nothing inline, no frames, no foreign images.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from thirdeye.server.web import ASSETS

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in ASSETS.items():
        body = files("thirdeye.server.web").joinpath(name).read_bytes()
        router.add_api_route(path, _sender(body, media_type), response_model=None)

    return router


def page(body: bytes, media_type: str) -> Response:
    """A page under the policy that all of them have."""
    return Response(body, headers=_HEADERS, media_type=media_type)


def _sender(body: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return page(body, media_type)

    return send
