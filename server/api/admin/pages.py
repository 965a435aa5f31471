"""The chat page at `/` and its files under `/web/`: plain pages that need no network.

Each file is read once, at start. A strict content security policy goes out with every page: own
scripts and styles only, nothing inline, no frames, no foreign images. A library's version is part
of its path, so browsers keep it without asking again.
"""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.exceptions import HTTPException
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
_FOREVER = _HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}


@cache
def read_assets() -> dict[str, tuple[bytes, str]]:
    """Content and media type by path."""
    web = files("thirdeye.server.web")
    return {path: (web.joinpath(name).read_bytes(), kind) for path, (name, kind) in ASSETS.items()}


def page_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    contents = read_assets()

    @router.get("/")
    async def first() -> Response:
        return page(*contents["/"])

    @router.get("/web/{name:path}")
    async def asset(name: str) -> Response:
        found = contents.get(f"/web/{name}")
        if found is None:
            raise HTTPException(404)
        return page(*found, _FOREVER if name.startswith("vendor/") else _HEADERS)

    return router


def page(body: bytes, media_type: str, headers: dict[str, str] = _HEADERS) -> Response:
    """A page under the policy that all of them have."""
    return Response(body, headers=headers, media_type=media_type)
