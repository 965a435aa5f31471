"""The front door of every POST route: a request's bytes become checked fields, or a refusal.

With `--lenient` unknown fields do not refuse the request; the answer says in `X-Ignored-Params`
which they were. It goes out with the status, so streams have it too. A field that is known keeps
its rules: leniency never lets a bad value through.
"""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from thirdeye.server.api.http.json_body import read_json
from thirdeye.server.api.http.request_scope import lifetime_of
from thirdeye.server.api.requests.pydantic_errors import parse
from thirdeye.server.api.requests.unsupported_fields import Refusal

Model = TypeVar("Model", bound=BaseModel)

MAX_NAMES, MAX_NAME_CHARS = 16, 64


class BodyReader:
    """Reads the body of a request, within this server's limit and with its leniency."""

    def __init__(self, max_bytes: int, lenient: bool) -> None:
        self._max_bytes = max_bytes
        self._lenient = lenient

    async def read(
        self, request: Request, model: type[Model], refused: dict[str, Refusal]
    ) -> Model:
        """The request's body as `model`. Raises `ApiError` naming the first thing that is wrong."""
        data = await read_json(request, self._max_bytes)
        ignored: set[str] | None = set() if self._lenient else None
        body = parse(model, data, refused, ignored)
        if ignored:
            lifetime_of(request).headers["X-Ignored-Params"] = header_list(ignored)
        return body


def header_list(names: Iterable[str]) -> str:
    """Names from a caller as a header's value: sorted, safe and short."""
    shown = sorted({safe_name(name) for name in names})
    more = ["..."] if len(shown) > MAX_NAMES else []
    return ", ".join(shown[:MAX_NAMES] + more)


def safe_name(name: str) -> str:
    is_safe = str.isalnum
    return "".join(
        c if c.isascii() and (is_safe(c) or c in "_-.") else "?" for c in name[:MAX_NAME_CHARS]
    )
