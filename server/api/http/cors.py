"""Which web pages of other origins may call: none, unless the operator names them.

Starlette's middleware does the work. What is ours: a refused preflight is an error like all others,
and the headers a client of this API reads are shown to pages. No cookies: a page sends its key.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from thirdeye.server.api.http.error_handlers import error_response
from thirdeye.server.api.http.rate_limits import RATE_HEADERS
from thirdeye.server.errors import Forbidden

EXPOSED = (
    "x-request-id",
    "Server-Timing",
    "Retry-After",
    "x-should-retry",
    "X-Ignored-Params",
    "X-Prompt-Warning",
    *RATE_HEADERS,
)


class CorsMiddleware(CORSMiddleware):
    """Outside the gate: a preflight carries no key, and pages must be able to read a 401."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except PreflightRefused as error:
            await error_response(error, scope)(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code != 200:
            raise PreflightRefused(
                "This origin or method is not allowed: see the server's '--cors-origin'.",
                code="origin_not_allowed",
            )
        names = ("Content-Type", "Content-Length")  # of Starlette's "OK"
        headers = {k: v for k, v in response.headers.items() if k.title() not in names}
        return Response(status_code=204, headers=headers)


class PreflightRefused(Forbidden):
    """Leaves the library's code and becomes an answer."""
