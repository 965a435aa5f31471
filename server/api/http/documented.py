"""What a route says of itself in the OpenAPI document: its body, its answers, its errors.

Handlers read their bodies themselves (the order of checks is ours), so a route only names the
schemas; `openapi/document.py` puts them into the document.
"""

from typing import Any

from msgspec import Struct
from pydantic import BaseModel

SCHEMAS = "#/components/schemas/"

NDJSON = "application/x-ndjson"

_JSON = "application/json"
_STATUSES = {
    400: "A field is wrong: `param` names it",
    401: "The API key is missing or not accepted",
    403: "The key lacks the scope; without keys: foreign Host or Origin",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    429: "The wait would be too long, or the key is at a limit: see Retry-After",
    431: "The head is too large",
    500: "A bug",
    503: "Loading, shutting down, or the engine has failed",
}
_BODY_STATUSES = (400, 408, 413, 429)
_EARLY_STATUSES = (408, 431)  # answered before the path is known, in OpenAI's envelope


def documented(
    tag: str,
    body: type[BaseModel] | None = None,
    *,
    answer: type[Struct] | str | None = None,
    error: str = "Error",
    media_type: str = _JSON,
    streams: str | None = None,
    lines: str | None = None,
    path_parameter: str | None = None,
    query: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Arguments of a route that document it: its body, its answers, its errors.

    `answer` is the struct that is written; as a string it is, like `error` and `streams` (what
    server-sent events carry) and `lines` (of a stream that is lines of JSON), the name of a schema
    that the document holds.
    """
    schema = reference(_name_of(answer)) if answer else {"type": "object"}
    content: dict[str, Any] = {}
    if media_type:
        content[media_type] = {"schema": schema if media_type == _JSON else {"type": "string"}}
    if streams:
        content["text/event-stream"] = {"x-itemSchema": event_of(streams)}
    if lines:
        content[NDJSON] = {"x-itemSchema": reference(lines)}
    left_out = set(() if body else _BODY_STATUSES)
    extra: dict[str, Any] = {"requestBody": _request_body(body)} if body else {}
    if path_parameter:
        extra["parameters"] = [_path_parameter(path_parameter)]
    if query:
        extra["parameters"] = [{"in": "query", "required": False, **query}]
        left_out -= {400, 429}
    if not path_parameter and body is None:
        left_out.add(404)
    responses: dict[int | str, Any] = {
        200: {"description": "The answer", "content": content, "headers": _headers(200)}
    }
    for status in _STATUSES.keys() - left_out:
        responses[status] = error_answer(status, "Error" if status in _EARLY_STATUSES else error)
    return {
        "tags": [tag],
        "response_model": None,
        "responses": dict(sorted(responses.items(), key=lambda item: int(item[0]))),
        "openapi_extra": extra,
    }


def _name_of(answer: type[Struct] | str) -> str:
    return answer if isinstance(answer, str) else answer.__name__


def reference(name: str) -> dict[str, Any]:
    """A schema of the document, by name."""
    return {"$ref": SCHEMAS + name}


def error_answer(status: int, schema: str = "Error") -> dict[str, Any]:
    """What an operation says of this status."""
    return {
        "description": _STATUSES[status],
        "content": {_JSON: {"schema": reference(schema)}},
        "headers": _headers(status),
    }


def _headers(status: int) -> dict[str, Any]:
    """Of an answer with this status. A 503 that is for good has no Retry-After."""
    headers = {"x-request-id": _header("Names the request, here and in the log")}
    if status in (429, 503):
        headers["Retry-After"] = _header("Seconds", is_required=status == 429)
    if status == 401:
        headers["WWW-Authenticate"] = _header("Bearer")
    return headers


def _header(description: str, *, is_required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": is_required, "schema": {"type": "string"}}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _request_body(body: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": reference(body.__name__)}}}


def event_of(name: str) -> dict[str, Any]:
    """One server-sent event whose data is of the schema `name`, as OpenAPI 3.2 writes it; or the
    `[DONE]` that ends a stream."""
    content = {
        "contentMediaType": "application/json",
        "contentSchema": reference(name),
    }
    data = {"type": "string", "if": {"const": "[DONE]"}, "else": content}
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": data},
        "required": ["data"],
    }
