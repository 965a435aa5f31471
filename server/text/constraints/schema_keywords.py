"""The keywords of JSON Schema: those that are obeyed, with what their values must be, and those
that only annotate. A keyword that stands in neither table is refused.
"""

from collections.abc import Callable

from thirdeye.server.text.constraints.reasons.regex_rules import unfollowable_regex
from thirdeye.server.text.constraints.repetition import regex_length, repeated_too_long

MAX_PATTERN = 4096  # characters of one regular expression
MAX_EXACT = 2**53  # the grammar counts in floats

TYPES = ("string", "number", "integer", "boolean", "null", "array", "object")
FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
)
ANNOTATIONS = frozenset(
    {
        "$anchor",
        "$comment",
        "$id",
        "$schema",
        "contentEncoding",
        "contentMediaType",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "example",
        "examples",
        "id",
        "readOnly",
        "title",
        "writeOnly",
    }
)


# Each rule answers with what is wrong with a value, or with "".


def _anything(_: object) -> str:
    return ""


def _object(value: object) -> str:
    return "" if isinstance(value, dict) else "must be an object."


def _schemas(value: object) -> str:
    return "" if isinstance(value, list) and value else "must be a list of at least one schema."


def _values(value: object) -> str:
    is_list = isinstance(value, list) and bool(value)
    return _exact_value(value) if is_list else "must be a list of at least one value."


def _names(value: object) -> str:
    is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return "" if is_names else "must be a list of property names."


def _string(value: object) -> str:
    return "" if isinstance(value, str) else "must be a string."


def _type(value: object) -> str:
    types = value if isinstance(value, list) else [value]
    is_known = bool(types) and all(name in TYPES for name in types)
    return "" if is_known else f"must be one of {', '.join(TYPES)}, or a list of them."


def _format(value: object) -> str:
    return "" if value in FORMATS else f"must be one of {', '.join(FORMATS)}."


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        return "must be a regular expression."
    too_long = f"must be at most {MAX_PATTERN} characters long, got {len(value)}."
    if len(value) > MAX_PATTERN:
        return too_long
    return unfollowable_regex(value) or repeated_too_long(regex_length(value))


def _patterns(value: object) -> str:
    return _object(value) or next(filter(None, map(_pattern, _keys(value))), "")


def _keys(value: object) -> list[object]:
    return list(value) if isinstance(value, dict) else []


def _count(value: object) -> str:
    is_count = type(value) is int and value >= 0
    return "" if is_count else "must be a whole number, 0 or more."


def _number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "must be a number."
    return "" if abs(value) <= MAX_EXACT else "must be between -2^53 and 2^53, to be exact."


def _floor(value: object) -> str:
    """Of an exclusive minimum: above 2^53 there is nothing exact."""
    return _number(value) or ("" if value != MAX_EXACT else "must be below 2^53, to be exact.")


def _ceiling(value: object) -> str:
    return _number(value) or ("" if value != -MAX_EXACT else "must be above -2^53, to be exact.")


def _exact_value(value: object) -> str:
    """Constants with integers in them, however deep."""
    if type(value) is int and abs(value) > MAX_EXACT:
        return "must hold no integer beyond 2^53: it would not be exact."
    children: list[object] = []
    if isinstance(value, dict | list):
        children = list(value.values()) if isinstance(value, dict) else value
    return next((rule for child in children if (rule := _exact_value(child))), "")


def _positive(value: object) -> str:
    is_positive = isinstance(value, int | float) and type(value) is not bool and value > 0
    return "" if is_positive else "must be a number greater than 0."


RULES: dict[str, Callable[[object], str]] = {
    "$defs": _object,
    "$ref": _string,
    "additionalItems": _anything,
    "additionalProperties": _anything,
    "allOf": _schemas,
    "anyOf": _schemas,
    "const": _exact_value,
    "definitions": _object,
    "enum": _values,
    "exclusiveMaximum": _ceiling,
    "exclusiveMinimum": _floor,
    "format": _format,
    "items": _anything,
    "maxItems": _count,
    "maxLength": _count,
    "maxProperties": _count,
    "maximum": _number,
    "minItems": _count,
    "minLength": _count,
    "minProperties": _count,
    "minimum": _number,
    "multipleOf": _positive,
    "oneOf": _schemas,
    "pattern": _pattern,
    "patternProperties": _patterns,
    "prefixItems": _schemas,
    "properties": _object,
    "required": _names,
    "type": _type,
}
