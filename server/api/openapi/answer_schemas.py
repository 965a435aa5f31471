"""What the routes answer, as JSON schemas: the keys that are always there, with their types.

Where an answer is a struct its schema is the struct's; the others are written here.

Requests are closed, answers are open: they may gain keys, and a client that refuses an unknown key
would break. OpenAI's own schemas are stricter about OpenAI's keys, and the tests hold every answer
against those.
"""

from typing import Any

import msgspec
from msgspec import Struct

from thirdeye.server.api.admin.loads import Loads
from thirdeye.server.api.admin.ops import Load, Status, Version
from thirdeye.server.api.anthropic.routes import AnthropicCount
from thirdeye.server.api.http.documented import SCHEMAS
from thirdeye.server.api.http.error_envelope import AnthropicError, OllamaError
from thirdeye.server.api.introspection.inspection import (
    InspectionEnd,
    InspectionLayer,
    InspectionStart,
    InspectionSweep,
    WholeInspection,
)
from thirdeye.server.api.introspection.prompt_routes import (
    InputTokens,
    RenderedPrompt,
    ServerProps,
)
from thirdeye.server.api.introspection.vocabulary_route import VocabularyAnswer
from thirdeye.server.api.ollama.answers import OllamaChatAnswer, OllamaTextAnswer
from thirdeye.server.api.ollama.embed import OllamaVector, OllamaVectors
from thirdeye.server.api.ollama.model_cards import (
    OllamaModels,
    OllamaProcesses,
    OllamaShown,
    OllamaVersion,
)
from thirdeye.server.api.openai.chat_format import ChatChunk, ChatCompletion
from thirdeye.server.api.openai.completion_format import TextChunk, TextCompletion
from thirdeye.server.api.openai.embeddings import Embeddings
from thirdeye.server.api.openai.models import ModelList
from thirdeye.server.api.openai.stream_chunks import Head
from thirdeye.server.api.openai.tokenize import Text, TokenizedText, TokenizerInfo
from thirdeye.server.api.pool.move_routes import ModelMoved
from thirdeye.server.api.receipts.verify import Verification
from thirdeye.server.api.responses.routes import ResponseInputTokens
from thirdeye.server.errors import Error

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def const(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def object_of(optional: dict[str, Schema] | None = None, /, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


_HEAD_OF_RESPONSE = {"id": STRING, "object": const("response"), "created_at": NUMBER}

STRUCTS: tuple[type[Struct], ...] = (
    AnthropicCount,
    AnthropicError,
    ChatChunk,
    ChatCompletion,
    TextCompletion,
    Embeddings,
    Error,
    Head,
    InputTokens,
    WholeInspection,
    InspectionEnd,
    InspectionLayer,
    InspectionStart,
    InspectionSweep,
    Load,
    Loads,
    ModelList,
    ModelMoved,
    OllamaChatAnswer,
    OllamaError,
    OllamaModels,
    OllamaProcesses,
    OllamaShown,
    OllamaTextAnswer,
    OllamaVector,
    OllamaVectors,
    OllamaVersion,
    RenderedPrompt,
    ResponseInputTokens,
    ServerProps,
    Status,
    Text,
    TextChunk,
    TokenizerInfo,
    TokenizedText,
    Verification,
    Version,
    VocabularyAnswer,
)
ANSWERS: dict[str, Schema] = {
    "Response": object_of(
        **_HEAD_OF_RESPONSE,
        status=const("completed", "incomplete", "failed"),
        output=list_of(object_of(type=const("message", "function_call"), id=STRING)),
        usage=object_of(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT),
    ),
    "AnthropicMessage": object_of(
        id=STRING,
        type=const("message"),
        role=const("assistant"),
        model=STRING,
        content=list_of(object_of(type=const("text", "tool_use"))),
        stop_reason=const("end_turn", "max_tokens", "stop_sequence", "tool_use"),
        usage=object_of(input_tokens=COUNT, output_tokens=COUNT),
    ),
}


def answer_schemas() -> dict[str, Schema]:
    """All of them by name, and those of the structs inside the structs."""
    _, found = msgspec.json.schema_components(
        STRUCTS, ref_template=SCHEMAS + "{name}", schema_hook=_any_value
    )
    for schema in found.values():
        _require_constants(schema)
        if "description" in schema:  # a docstring
            schema["description"] = " ".join(schema["description"].split())
    return ANSWERS | found


def _require_constants(schema: Schema) -> None:
    """A field with a default is a constant: it is written like the others."""
    for name, field in schema["properties"].items():
        if "default" in field:
            del field["default"]
            schema["required"].append(name)


def _any_value(kind: type) -> Schema:
    if kind is not object:
        raise NotImplementedError(f"{kind} has no JSON schema")
    return {"description": "Any JSON value."}
