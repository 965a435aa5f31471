"""A value as a JSON answer."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def json_response(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), 200, headers, media_type="application/json")
