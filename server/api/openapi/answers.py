"""What the routes answer, as JSON schemas: the keys that are always there, with their types.

Requests are closed, answers are open: they may gain keys, and a client that refuses an unknown key
would break. OpenAI's own schemas are stricter about OpenAI's keys, and the tests hold every answer
against those.
"""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULL: Schema = {"type": "null"}


def _const(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, NULL]}


def _object(optional: dict[str, Schema] | None = None, /, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


_USAGE = _object(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=_object(cached_tokens=COUNT, audio_tokens=COUNT),
    completion_tokens_details=_object(
        reasoning_tokens=COUNT,
        audio_tokens=COUNT,
        accepted_prediction_tokens=COUNT,
        rejected_prediction_tokens=COUNT,
    ),
)
_TIMINGS = _object(
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
_ENTRY = {"token": STRING, "logprob": NUMBER, "bytes": _or_null(_list(COUNT))}
_CHAT_LOGPROBS = _object(
    content=_or_null(_list(_object(**_ENTRY, top_logprobs=_list(_object(**_ENTRY))))),
    refusal=NULL,
)
_MESSAGE = _object(
    {"tool_calls": _list(_object(id=STRING, type=_const("function"), function=_object(
        name=STRING, arguments=STRING)))},
    role=_const("assistant"),
    content=_or_null(STRING),
    refusal=_or_null(STRING),
    annotations=_list({}),
)  # fmt: skip
_TEXT_LOGPROBS = _object(
    tokens=_list(STRING),
    token_logprobs=_list(_or_null(NUMBER)),
    top_logprobs=_list(_or_null({"type": "object", "additionalProperties": NUMBER})),
    text_offset=_list(COUNT),
)
_EXTRAS = {"receipt": {"$ref": "#/components/schemas/Receipt"}, "system_fingerprint": STRING}
_HEAD = {"id": STRING, "created": COUNT, "model": STRING}
_HEAD_OF_RESPONSE = {"id": STRING, "object": _const("response"), "created_at": NUMBER}
_MODEL = _object(
    id=STRING,
    object=_const("model"),
    created=COUNT,
    owned_by=STRING,
    root=STRING,
    parent=NULL,
    max_model_len=COUNT,
)

ANSWERS: dict[str, Schema] = {
    "ChatCompletion": _object(
        _EXTRAS | {"service_tier": _const("default")},
        **_HEAD,
        object=_const("chat.completion"),
        choices=_list(
            _object(
                index=COUNT,
                message=_MESSAGE,
                logprobs=_or_null(_CHAT_LOGPROBS),
                finish_reason=_const("stop", "length", "tool_calls"),
            )
        ),
        usage=_USAGE,
        timings=_TIMINGS,
    ),
    "Completion": _object(
        _EXTRAS,
        **_HEAD,
        object=_const("text_completion"),
        choices=_list(
            _object(
                index=COUNT,
                text=STRING,
                logprobs=_or_null(_TEXT_LOGPROBS),
                finish_reason=_const("stop", "length"),
            )
        ),
        usage=_USAGE,
        timings=_TIMINGS,
    ),
    "Model": _MODEL,
    "ModelList": _object(object=_const("list"), data=_list(_MODEL)),
    "Tokens": _object(
        count=COUNT,
        max_model_len=COUNT,
        tokens=_list(COUNT),
        token_strs=_or_null(_list(STRING)),
    ),
    "Text": _object(prompt=STRING),
    "Verification": _object(
        {"field": STRING, "reason": STRING, "choice": COUNT, "position": COUNT, "usage": _USAGE},
        object=_const("verification"),
        verdict=_const("equal", "different", "not_comparable"),
    ),
    "Response": _object(
        **_HEAD_OF_RESPONSE,
        status=_const("completed", "incomplete", "failed"),
        output=_list(_object(type=_const("message", "function_call"), id=STRING)),
        usage=_object(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT),
    ),
    "AnthropicMessage": _object(
        id=STRING,
        type=_const("message"),
        role=_const("assistant"),
        model=STRING,
        content=_list(_object(type=_const("text", "tool_use"))),
        stop_reason=_const("end_turn", "max_tokens", "stop_sequence", "tool_use"),
        usage=_object(input_tokens=COUNT, output_tokens=COUNT),
    ),
    "AnthropicCount": _object(input_tokens=COUNT),
    "Error": _object(
        error=_object(message=STRING, type=STRING, param=_or_null(STRING), code=_or_null(STRING))
    ),
    "AnthropicError": _object(
        type=_const("error"), error=_object(type=STRING, message=STRING), request_id=STRING
    ),
    "Status": _object(status=_const("ok", "ready")),
    "Load": _object(running=COUNT, waiting=COUNT, kv_usage=NUMBER),
    "TokenizerInfo": _object(
        tokenizer_class=STRING,
        bos_token=_or_null(STRING),
        eos_token=_or_null(STRING),
        pad_token=_or_null(STRING),
        chat_template=_or_null(STRING),
    ),
    "Embeddings": _object(
        object=_const("list"),
        model=STRING,
        data=_list(
            _object(
                object=_const("embedding"),
                index=COUNT,
                embedding={"anyOf": [_list(NUMBER), STRING]},
            )
        ),
        usage=_object(prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "Version": _object(version=STRING),
}
