"""What the routes answer, as JSON schemas: the keys that are always there, with their types.

Requests are closed, answers are open: they may gain keys, and a client that refuses an unknown key
would break. OpenAI's own schemas are stricter about OpenAI's keys, and the tests hold every answer
against those.
"""

from typing import Any

from thirdeye.server.api.http.documented import reference

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULL: Schema = {"type": "null"}


def const(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def object_of(optional: dict[str, Schema] | None = None, /, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


def choices_of(**fields: Schema) -> Schema:
    """The samples of an answer or of a chunk."""
    return list_of(object_of(index=COUNT, **fields))


USAGE = object_of(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=object_of(cached_tokens=COUNT, audio_tokens=COUNT),
    completion_tokens_details=object_of(
        reasoning_tokens=COUNT,
        audio_tokens=COUNT,
        accepted_prediction_tokens=COUNT,
        rejected_prediction_tokens=COUNT,
    ),
)
TIMINGS = object_of(
    {"truncated_n": COUNT},
    queue_ms=NUMBER,
    cache_n=COUNT,
    prompt_n=COUNT,
    prompt_ms=NUMBER,
    predicted_n=COUNT,
    predicted_ms=NUMBER,
    ttft_ms=NUMBER,
    total_ms=NUMBER,
    steps=COUNT,
)
_ENTRY = {"token": STRING, "logprob": NUMBER, "bytes": or_null(list_of(COUNT))}
CHAT_LOGPROBS = object_of(
    content=or_null(list_of(object_of(**_ENTRY, top_logprobs=list_of(object_of(**_ENTRY))))),
    refusal=NULL,
)
_MESSAGE = object_of(
    {"tool_calls": list_of(object_of(id=STRING, type=const("function"), function=object_of(
        name=STRING, arguments=STRING)))},
    role=const("assistant"),
    content=or_null(STRING),
    refusal=or_null(STRING),
    annotations=list_of({}),
)  # fmt: skip
TEXT_LOGPROBS = object_of(
    tokens=list_of(STRING),
    token_logprobs=list_of(or_null(NUMBER)),
    top_logprobs=list_of(or_null({"type": "object", "additionalProperties": NUMBER})),
    text_offset=list_of(COUNT),
)
EXTRAS = {"receipt": reference("Receipt"), "system_fingerprint": STRING}
HEAD = {"id": STRING, "created": COUNT, "model": STRING}
_HEAD_OF_RESPONSE = {"id": STRING, "object": const("response"), "created_at": NUMBER}
_MODEL = object_of(
    id=STRING,
    object=const("model"),
    created=COUNT,
    owned_by=STRING,
    root=STRING,
    parent=NULL,
    max_model_len=COUNT,
)

ANSWERS: dict[str, Schema] = {
    "ChatCompletion": object_of(
        EXTRAS | {"service_tier": const("default")},
        **HEAD,
        object=const("chat.completion"),
        choices=choices_of(
            message=_MESSAGE,
            logprobs=or_null(CHAT_LOGPROBS),
            finish_reason=const("stop", "length", "tool_calls"),
        ),
        usage=USAGE,
        timings=TIMINGS,
    ),
    "Completion": object_of(
        EXTRAS,
        **HEAD,
        object=const("text_completion"),
        choices=choices_of(
            text=STRING,
            logprobs=or_null(TEXT_LOGPROBS),
            finish_reason=const("stop", "length"),
        ),
        usage=USAGE,
        timings=TIMINGS,
    ),
    "Model": _MODEL,
    "ModelList": object_of(object=const("list"), data=list_of(_MODEL)),
    "Tokens": object_of(
        count=COUNT,
        max_model_len=COUNT,
        tokens=list_of(COUNT),
        token_strs=or_null(list_of(STRING)),
    ),
    "Text": object_of(prompt=STRING),
    "Verification": object_of(
        {"field": STRING, "reason": STRING, "choice": COUNT, "position": COUNT, "usage": USAGE},
        object=const("verification"),
        verdict=const("equal", "different", "not_comparable"),
    ),
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
    "AnthropicCount": object_of(input_tokens=COUNT),
    "Error": object_of(
        error=object_of(message=STRING, type=STRING, param=or_null(STRING), code=or_null(STRING))
    ),
    "AnthropicError": object_of(
        type=const("error"), error=object_of(type=STRING, message=STRING), request_id=STRING
    ),
    "Status": object_of(status=const("ok", "ready")),
    "Load": object_of(running=COUNT, waiting=COUNT, kv_usage=NUMBER),
    "TokenizerInfo": object_of(
        tokenizer_class=STRING,
        bos_token=or_null(STRING),
        eos_token=or_null(STRING),
        pad_token=or_null(STRING),
        chat_template=or_null(STRING),
    ),
    "Embeddings": object_of(
        object=const("list"),
        model=STRING,
        data=list_of(
            object_of(
                object=const("embedding"),
                index=COUNT,
                embedding={"anyOf": [list_of(NUMBER), STRING]},
            )
        ),
        usage=object_of(prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "Version": object_of(version=STRING),
    "Inspection": object_of(
        object=const("inspection"),
        id=STRING,
        created=COUNT,
        model=STRING,
        system_fingerprint=STRING,
        tokens=list_of(object_of(id=COUNT, token=STRING, bytes=list_of(COUNT))),
        dims={"type": "object", "additionalProperties": list_of(STRING)},
        layer_numbers=list_of(COUNT),
        lens_positions=list_of(COUNT),
        num_layers=COUNT,
        num_heads=COUNT,
        num_kv_heads=COUNT,
        hidden_size=COUNT,
        parameters={"type": "object", "additionalProperties": COUNT},
        next_token=list_of(list_of(object_of(id=COUNT, token=STRING, logprob=NUMBER))),
        layers=list_of(object_of(layer=COUNT)),
    ),
}
