"""Exceptions to answers: one envelope for every error, ours and the framework's."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from thirdeye.server.api.http.error_envelope import error_body
from thirdeye.server.api.http.json_response import json_response
from thirdeye.server.api.http.request_scope import lifetime_in
from thirdeye.server.errors import (
    ApiError,
    ClientGone,
    InvalidRequest,
    MethodNotAllowed,
    ResourceNotFound,
)


def error_response(error: ApiError, scope: Scope) -> Response:
    body = error_body(error, scope["path"], lifetime_in(scope).request_id)
    return json_response(body, error.headers, error.status)


async def on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error, request.scope)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette's router raises by itself: an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    return error_response(_routing_error(request, error), request.scope)


def _routing_error(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ResourceNotFound(_where("Unknown URL", request), code="unknown_url")
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        if "GET" in allow:
            allow = "GET, HEAD"
        return MethodNotAllowed(
            f"{_where('Method not allowed', request)} Allowed: {allow}.",
            code="method_not_allowed",
            headers={"Allow": allow},
        )
    return InvalidRequest("The request is not valid.")


def _where(what: str, request: Request) -> str:
    path = "".join(c if c.isprintable() else "?" for c in request.scope["path"][:100])
    return f"{what}: {request.method} {path}."


async def on_client_gone(_request: Request, error: Exception) -> Response:
    """Nobody reads this; 499 is what access logs call it."""
    assert isinstance(error, ClientGone)
    return Response(status_code=499)
