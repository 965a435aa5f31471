"""The OpenAPI document: our request models in it, with their ranges, and every error's shape.

Each route names its schemas (`http/documented.py`), here they are put in as components. Rules
between fields come from `rules`, answers from `answer_schemas`, and the served model from `model`.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from thirdeye.server.api.admin.adapter_routes import LoadAdapterRequest, UnloadAdapterRequest
from thirdeye.server.api.anthropic.schema import CountTokensRequest, MessagesRequest
from thirdeye.server.api.field_rules.nothing import NOTHING, or_nothing
from thirdeye.server.api.http.documented import SCHEMAS
from thirdeye.server.api.introspection.inspect_request import InspectRequest, VocabularyRequest
from thirdeye.server.api.ollama.schema import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from thirdeye.server.api.openai.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from thirdeye.server.api.openapi.answer_schemas import answer_schemas
from thirdeye.server.api.openapi.descriptions import descriptions_of
from thirdeye.server.api.openapi.examples import EXAMPLES
from thirdeye.server.api.openapi.inner_descriptions import (
    ROUTES,
    ROUTES_OF_SEVERAL,
    inner_descriptions,
)
from thirdeye.server.api.openapi.rules import RULES, UNTOLD
from thirdeye.server.api.openapi.stream_events import event_schemas
from thirdeye.server.api.pool.move_routes import ModelNameRequest
from thirdeye.server.api.receipts.receipt import VerifyRequest
from thirdeye.server.api.requests.strict_model import Strict
from thirdeye.server.api.responses.schema import ResponsesRequest

REQUESTS: tuple[type[Strict], ...] = (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ResponsesRequest,
    MessagesRequest,
    CountTokensRequest,
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaEmbedRequest,
    OllamaEmbeddingsRequest,
    OllamaShowRequest,
    TokenizeRequest,
    DetokenizeRequest,
    InspectRequest,
    VocabularyRequest,
    VerifyRequest,
    LoadAdapterRequest,
    UnloadAdapterRequest,
    ModelNameRequest,
)


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
        _add_examples(found["paths"])
        told = ROUTES | ROUTES_OF_SEVERAL
        for path, operations in found["paths"].items():
            for operation in operations.values():
                operation["description"] = told[path]
        app.openapi_schema = found
    return app.openapi_schema


def _schemas() -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in REQUESTS], ref_template=SCHEMAS + "{model}"
    )
    schemas: dict[str, Any] = found["$defs"]
    for schema in schemas.values():
        _allow_nothing(schema)
    for model in REQUESTS:
        schema = schemas[model.__name__]
        fields = schema["properties"]
        for name, words in descriptions_of(model).items():
            fields[name] = {**fields[name], "description": words}
        fields |= {name: refusal.schema() for name, refusal in model.refused.items()}
        fields |= {name: _same_as(field, fields) for name, field in model.other_names.items()}
        if rules := RULES.get(model.__name__):
            schema["allOf"] = rules
    for inner, told in inner_descriptions().items():
        fields = schemas[inner]["properties"]
        fields |= {name: {**fields[name], "description": words} for name, words in told.items()}
    return schemas | answer_schemas() | event_schemas()


def _add_examples(paths: dict[str, Any]) -> None:
    for operation in (operation for methods in paths.values() for operation in methods.values()):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            name = body["schema"]["$ref"].rpartition("/")[2]
            if name in EXAMPLES:
                body["example"] = EXAMPLES[name]


def _same_as(field: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Another server's name for a field."""
    return {**fields[field], "description": f"Another name of '{field}'."}


def _allow_nothing(schema: dict[str, Any]) -> None:
    """What has nothing in it means "not given" for every optional field."""
    null = {"type": "null"}
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        if name in required:
            continue
        if null in field.get("anyOf", []):
            field["anyOf"] = [NOTHING if option == null else option for option in field["anyOf"]]
        else:
            schema["properties"][name] = NOTHING if field == null else or_nothing(field)
