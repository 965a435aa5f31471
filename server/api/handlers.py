"""Exceptions to answers: OpenAI's envelope for every error, ours and the framework's."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.errors import ApiError, BadRequest, ClientGone, MethodNotAllowed, NotFound


def error_response(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers)


async def on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette's router raises by itself: an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(_where("Unknown URL", request), code="unknown_url"))
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        if "GET" in allow:
            allow = "GET, HEAD"
        return error_response(
            MethodNotAllowed(
                f"{_where('Method not allowed', request)} Allowed: {allow}.",
                code="method_not_allowed",
                headers={"Allow": allow},
            )
        )
    return error_response(BadRequest("The request is not valid."))


def _where(what: str, request: Request) -> str:
    path = "".join(c if c.isprintable() else "?" for c in request.scope["path"][:100])
    return f"{what}: {request.method} {path}."


async def on_client_gone(_request: Request, error: Exception) -> Response:
    """Nobody reads this; 499 is what access logs call it."""
    assert isinstance(error, ClientGone)
    return Response(status_code=499)
