"""The OpenAPI document: our request models in it, with their ranges, and every error's shape.

Handlers read their bodies themselves (the order of checks is ours), so the schemas are put into the
document by hand: once as components, and as a reference at each route.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.api.inspect_request import InspectRequest
from server.api.messages_schema import CountTokensRequest, MessagesRequest
from server.api.receipt import VerifyRequest
from server.api.responses_schema import ResponsesRequest
from server.api.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)

_REFERENCE = "#/components/schemas/{model}"
_REQUESTS: list[type[BaseModel]] = [
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ResponsesRequest,
    MessagesRequest,
    CountTokensRequest,
    TokenizeRequest,
    DetokenizeRequest,
    InspectRequest,
    VerifyRequest,
]
_NULLABLE_STRING = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": _NULLABLE_STRING,
                "code": _NULLABLE_STRING,
            },
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_ERROR_CONTENT = {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}}
_STATUSES = {
    400: "A field is wrong: `param` names it",
    401: "The API key is missing or not accepted",
    403: "Foreign Host or Origin",
    404: "No such model",
    413: "The body is too large",
    429: "The queue is full: see Retry-After",
    500: "A bug",
    503: "Loading, shutting down, or the engine has failed",
}


def documented(
    tag: str,
    body: type[BaseModel] | None = None,
    *,
    streams: bool = False,
    path_parameter: str | None = None,
    query: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Arguments of a route that document it: its body, its answers, its errors."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    statuses = _STATUSES if body else {code: _STATUSES[code] for code in (401, 403, 404, 503)}
    responses: dict[int | str, Any] = {200: {"description": "The answer", "content": content}}
    for status, description in statuses.items():
        responses[status] = {"description": description, "content": _ERROR_CONTENT}
    extra: dict[str, Any] = {"requestBody": _request_body(body)} if body else {}
    if path_parameter:
        extra["parameters"] = [_path_parameter(path_parameter)]
    if query:
        extra["parameters"] = [{"in": "query", "required": False, **query}]
        responses |= {
            status: {"description": _STATUSES[status], "content": _ERROR_CONTENT}
            for status in (400, 429)
        }
    return {
        "tags": [tag],
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _request_body(body: type[BaseModel]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=body.__name__)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built when it is first asked for."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        found.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
        app.openapi_schema = found
    return app.openapi_schema


def _schemas() -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in _REQUESTS], ref_template=_REFERENCE
    )
    schemas: dict[str, Any] = found["$defs"] | {"Error": _ERROR}
    for schema in schemas.values():
        _allow_null(schema)
    return schemas


def _allow_null(schema: dict[str, Any]) -> None:
    """`null` means "not given" for every optional field."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        if name not in required and {"type": "null"} not in field.get("anyOf", []):
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}]}
