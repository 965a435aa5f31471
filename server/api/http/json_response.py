"""Answers as JSON. An answer is a msgspec struct: one declaration makes its bytes, and its schema
in the OpenAPI document. What may be left out is `UNSET`; every other field is always there.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from starlette.responses import Response

Count = Annotated[int, msgspec.Meta(ge=0)]


def json_response(
    value: object, headers: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
