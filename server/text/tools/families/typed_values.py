"""Arguments that a model writes as bare text, as JSON: a tool's schema tells their types.

JSON is what the standard has: NaN and Infinity, which Python reads too, are text.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

Schema = Mapping[str, Any]
_WORDS = {"True": True, "False": False, "None": None}


def schema_of(parameters: Schema, key: str) -> Schema:
    """What the schema of an object says of one of its properties."""
    properties = parameters.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def types_of(schema: Schema) -> frozenset[str]:
    """The types that a value may have; none where it does not say."""
    kind = schema.get("type")
    found = {kind} if isinstance(kind, str) else {k for k in kind or () if isinstance(k, str)}
    for key in ("anyOf", "oneOf"):
        for option in schema.get(key) or ():
            found |= types_of(option) if isinstance(option, Mapping) else set()
    for value in (*(schema.get("enum") or ()), *([schema["const"]] if "const" in schema else ())):
        found |= {"string"} if isinstance(value, str) else {"other"} if not found else set()
    return frozenset(found)


def read_json(text: str) -> object:
    """Raises ValueError for what is no JSON, or too deep to be read."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def whole_characters(text: str) -> str:
    """Halves of surrogate pairs joined where both are there, else replaced: text that can be
    sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_json(text: str, schema: Schema) -> str:
    """A bare text as JSON: itself where it is JSON of another type than string, else a string."""
    types = types_of(schema)
    if types == {"string"}:
        return json.dumps(text, ensure_ascii=False)
    try:
        value = read_json(text)
    except ValueError:
        if text in _WORDS and types:
            return json.dumps(_WORDS[text])
        return json.dumps(text, ensure_ascii=False)
    if isinstance(value, str) or ("string" in types and not _fits(value, types)):
        return json.dumps(text, ensure_ascii=False) if not isinstance(value, str) else text.strip()
    return text.strip()


def _fits(value: object, types: frozenset[str]) -> bool:
    """Whether a value that is no string is of one of the types."""
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return bool(types & {"number", "integer"})
    return ("array" if isinstance(value, list) else "object") in types
