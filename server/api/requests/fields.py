"""Fields whose type is a choice: prompt, stop, logit_bias.

Each has one function that reads it and says exactly what is wrong and where, which pydantic's
unions cannot (they report every branch); beside it stands the JSON schema of what the function
accepts.
"""

from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from thirdeye.server.api.requests.value_readers import (
    array,
    fail,
    mapping,
    string,
    wrong_type,
)
from thirdeye.server.settings.bounds import MAX_STOPS

MAX_PROMPTS = 128
MAX_INPUTS = 2048  # of /v1/embeddings, as at OpenAI: libraries send a thousand at once
MAX_STOP_CHARS = 256
MAX_LOGIT_BIAS = 1024

Prompt = str | list[int]


def parse_prompts(value: object) -> list[Prompt]:
    """A string, token ids, or a list of either kind, as a list of prompts."""
    return _prompts(value, MAX_PROMPTS)


def parse_inputs(value: object) -> list[Prompt]:
    """The same for embeddings, which need at least one token of each."""
    inputs = _prompts(value, MAX_INPUTS)
    for i, prompt in enumerate(inputs):
        if not prompt:
            path = f"[{i}]" if isinstance(value, list) else ""
            fail("empty_string", "must not be an empty string.", path)
    return inputs


def parse_one_prompt(value: object) -> Prompt:
    """One text or one list of token ids, alone or in a list, with something in it."""
    prompts = parse_prompts(value)
    if len(prompts) != 1:
        fail("array_above_max_length", f"must be one text, got {len(prompts)}.")
    if not prompts[0]:
        fail("empty_string", "must not be empty.")
    return prompts[0]


def _prompts(value: object, limit: int) -> list[Prompt]:
    if isinstance(value, str):
        return [value]
    value = array(value, wanted="a string, token ids, or a list of them")
    if not value:
        fail("array_below_min_length", "must hold at least 1 item, got 0.")
    if type(value[0]) is int:
        return [_token_ids(value, "")]
    if len(value) > limit:
        rule = f"must hold at most {limit} prompts, got {len(value)}."
        fail("array_above_max_length", rule)
    if isinstance(value[0], str):
        like = "a string like the first item"
        return [string(item, f"[{i}]", like) for i, item in enumerate(value)]
    return [_token_ids(item, f"[{i}]") for i, item in enumerate(value)]


def _token_ids(value: object, path: str) -> list[int]:
    token_ids = array(value, path, "a list of token ids")
    if not token_ids:
        fail("array_below_min_length", "must hold at least 1 token id, got 0.", path)
    if set(map(type, token_ids)) == {int} and min(token_ids) >= 0 and max(token_ids) < 2**31:
        return token_ids  # of a million the loop would take a second
    for i, token_id in enumerate(token_ids):
        if type(token_id) is not int:
            wrong_type("an integer token id", token_id, f"{path}[{i}]")
        if not 0 <= token_id < 2**31:
            fail("invalid_value", "must be a token id of the vocabulary.", f"{path}[{i}]")
    return token_ids


_STRINGS = "a string or a list of strings"


def parse_stop(value: object) -> tuple[str, ...]:
    """One stop string or a list of them. An empty one asks for nothing."""
    items = [value] if isinstance(value, str) else array(value, wanted=_STRINGS)
    if len(items) > MAX_STOPS:
        fail("array_above_max_length", f"must hold at most {MAX_STOPS} items, got {len(items)}.")
    for i, item in enumerate(items):
        path = f"[{i}]" if isinstance(value, list) else ""
        if len(string(item, path)) > MAX_STOP_CHARS:
            rule = f"must be at most {MAX_STOP_CHARS} characters long, got {len(item)}."
            fail("string_above_max_length", rule)
    return tuple(filter(None, items))


def parse_logit_bias(value: object) -> dict[int, float]:
    """Token id (a JSON key, so a string) -> number added to its logit."""
    biases = mapping(value, wanted="an object of token ids and numbers")
    if len(biases) > MAX_LOGIT_BIAS:
        rule = f"must hold at most {MAX_LOGIT_BIAS} entries, got {len(biases)}."
        fail("object_above_max_properties", rule)
    return {_bias_key(key): _bias(key, bias) for key, bias in biases.items()}


def _bias_key(key: str) -> int:
    is_plain = key.isascii() and key.isdecimal() and (key == "0" or key[0] != "0")
    if not is_plain or len(key) > 10:
        fail("invalid_value", f"must have token ids as keys, got {_shown(key)}.")
    return int(key)


def _bias(key: str, bias: object) -> float:
    if not isinstance(bias, (int, float)) or isinstance(bias, bool):
        wrong_type(f"a number for token {_shown(key)}", bias)
    if not -100 <= bias <= 100:
        fail("invalid_value", f"must be between -100 and 100 for token {_shown(key)}.")
    return float(bias)


def _shown(key: str) -> str:
    return repr(key[:20])


def parse_truncate(value: object) -> object:
    """What of a text goes that is too long: its end (`true` too), its beginning, or nothing."""
    if not isinstance(value, bool) and value not in CUTS:
        fail("invalid_value", "must be a boolean, 'NONE', 'END' or 'START'.")
    return value


CUTS = ("NONE", "END", "START")
Truncate = Annotated[
    bool | str, PlainValidator(parse_truncate), WithJsonSchema({"enum": [True, False, *CUTS]})
]
_IDS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "format": "token-id"},
    "minItems": 1,
}
_STOP: dict[str, Any] = {"type": "string", "maxLength": MAX_STOP_CHARS}


def prompts_schema(
    string: dict[str, Any], limit: int, ids: dict[str, Any] | None = None
) -> dict[str, Any]:
    ids = ids or _IDS
    size = {"type": "array", "minItems": 1, "maxItems": limit}
    return {"anyOf": [string, size | {"items": string}, ids, size | {"items": ids}]}


def one_prompt_schema(max_tokens: int) -> dict[str, Any]:
    ids = _IDS | {"maxItems": max_tokens}
    return prompts_schema({"type": "string", "minLength": 1}, 1, ids)


Prompts = Annotated[
    list[Prompt],
    PlainValidator(parse_prompts),
    WithJsonSchema(prompts_schema({"type": "string"}, MAX_PROMPTS)),
]
Inputs = Annotated[
    list[Prompt],
    PlainValidator(parse_inputs),
    WithJsonSchema(prompts_schema({"type": "string", "minLength": 1}, MAX_INPUTS)),
]
Stop = Annotated[
    tuple[str, ...],
    PlainValidator(parse_stop),
    WithJsonSchema({"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}]}),
]
LogitBias = Annotated[
    dict[int, float],
    PlainValidator(parse_logit_bias),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,9})$", "format": "token-id"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            "maxProperties": MAX_LOGIT_BIAS,
        }
    ),
]
