"""The OpenAPI document: our request models in it, with their ranges, and every error's shape.

Handlers read their bodies themselves (the order of checks is ours), so the schemas are put into the
document by hand: once as components, and as a reference at each route. Rules between fields come
from `rules`, answers from `answers`, and the served model from `model`.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from thirdeye.server.api.anthropic.schema import (
    REFUSED_IN_MESSAGES,
    CountTokensRequest,
    MessagesRequest,
)
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.openai.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from thirdeye.server.api.openapi.answers import ANSWERS
from thirdeye.server.api.openapi.rules import RULES, UNTOLD
from thirdeye.server.api.openapi.stream_events import event_of, event_schemas
from thirdeye.server.api.receipts.receipt import VerifyRequest
from thirdeye.server.api.requests.unsupported_fields import (
    REFUSED_IN_CHAT,
    REFUSED_IN_COMPLETIONS,
    REFUSED_IN_EMBEDDINGS,
    Refusal,
)
from thirdeye.server.api.responses.schema import REFUSED_IN_RESPONSES, ResponsesRequest

_REFERENCE = "#/components/schemas/{model}"
# Each request, and the fields that it takes with values that ask for nothing.
_REQUESTS: dict[type[BaseModel], Mapping[str, Refusal]] = {
    ChatRequest: REFUSED_IN_CHAT,
    CompletionRequest: REFUSED_IN_COMPLETIONS,
    EmbeddingRequest: REFUSED_IN_EMBEDDINGS,
    ResponsesRequest: REFUSED_IN_RESPONSES,
    MessagesRequest: REFUSED_IN_MESSAGES,
    CountTokensRequest: REFUSED_IN_MESSAGES,
    TokenizeRequest: {},
    DetokenizeRequest: {},
    InspectRequest: {},
    VerifyRequest: {},
}
_JSON = "application/json"
_STATUSES = {
    400: "A field is wrong: `param` names it",
    401: "The API key is missing or not accepted",
    403: "Foreign Host or Origin",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    429: "The queue is full: see Retry-After",
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
    answer: str | None = None,
    error: str = "Error",
    media_type: str = _JSON,
    streams: str | None = None,
    path_parameter: str | None = None,
    query: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Arguments of a route that document it: its body, its answers, its errors.

    `answer` and `error` are names in `ANSWERS`; `streams`, what server-sent events carry, is one in
    `EVENTS`.
    """
    schema = {"$ref": _REFERENCE.format(model=answer)} if answer else {"type": "object"}
    content: dict[str, Any] = {}
    if media_type:
        content[media_type] = {"schema": schema if media_type == _JSON else {"type": "string"}}
    if streams:
        content["text/event-stream"] = {"itemSchema": event_of(streams)}
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
        responses[status] = _error(status, "Error" if status in _EARLY_STATUSES else error)
    return {
        "tags": [tag],
        "response_model": None,
        "responses": dict(sorted(responses.items(), key=lambda item: int(item[0]))),
        "openapi_extra": extra,
    }


def _error(status: int, schema: str) -> dict[str, Any]:
    return {
        "description": _STATUSES[status],
        "content": {_JSON: {"schema": {"$ref": _REFERENCE.format(model=schema)}}},
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
    schema = {"$ref": _REFERENCE.format(model=body.__name__)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built when it is first asked for."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            routes=app.routes,
            description="Some rules no schema can tell; a 400 names the field:\n\n"
            + "\n".join(f"* {rule}" for rule in UNTOLD),
        )
        found.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
        app.openapi_schema = found
    return app.openapi_schema


def _schemas() -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in _REQUESTS], ref_template=_REFERENCE
    )
    schemas: dict[str, Any] = found["$defs"]
    for schema in schemas.values():
        _allow_null(schema)
    for model, refused in _REQUESTS.items():
        schema = schemas[model.__name__]
        schema["properties"] |= {name: _neutral(refusal) for name, refusal in refused.items()}
        if rules := RULES.get(model.__name__):
            schema["allOf"] = rules
    return schemas | ANSWERS | event_schemas()


def _neutral(refusal: Refusal) -> dict[str, Any]:
    """A field that may be there and may ask for nothing."""
    return {"enum": [*refusal.neutral, None], "description": f"Not supported: {refusal.hint}."}


def _allow_null(schema: dict[str, Any]) -> None:
    """`null` means "not given" for every optional field."""
    null = {"type": "null"}
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        if name not in required and field != null and null not in field.get("anyOf", []):
            schema["properties"][name] = {"anyOf": [field, null]}
