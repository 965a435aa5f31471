"""Several models in the OpenAPI document: which there are, and how who sends no body names one.

What differs from one model to the next is left open: a token id may be any, as before a model is
there.
"""

from collections.abc import Iterable
from typing import Any

from thirdeye.server.api.http.documented import error_answer
from thirdeye.server.api.openapi.served_model import Document, name_models

LOOKS = ("/props", "/tokenizer_info", "/v1/timeline", "/v1/loads", "/reset_prefix_cache")
MOVES = ("/sleep", "/wake_up")
WORDS = "Which model; without it the first."


def show_models(document: Document, names: Iterable[str], *, are_all: bool) -> Document:
    """The document, in place. `are_all`: no other name is a model's."""
    allowed = tuple(names) if are_all else ()
    for name, schema in document["components"]["schemas"].items():
        if allowed and name.endswith("Request") and "model" in schema.get("properties", {}):
            name_models(schema, allowed)
    for path in LOOKS + MOVES:
        for operation in document["paths"][path].values():
            others = [p for p in operation.get("parameters", []) if p["name"] != "model"]
            operation["parameters"] = [*others, _parameter(allowed)]
            operation["responses"]["404"] = error_answer(404)
    return document


def _parameter(names: tuple[str, ...]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} | ({"enum": list(names)} if names else {})
    return {"name": "model", "in": "query", "required": False, "description": WORDS} | {
        "schema": schema
    }
