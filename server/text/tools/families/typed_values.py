"""Arguments that a model writes as bare text, as JSON: a tool's schema tells their types.

JSON is what the standard has: NaN and Infinity, which Python reads too, are text.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from thirdeye.server.text.constraints.json_schema import resolve
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS

Schema = Mapping[str, Any]
_WORDS = {"True": True, "False": False, "None": None}


def schema_of(parameters: Schema, key: str) -> Schema:
    """What the schema of an object says of one of its properties."""
    node = seen_through(parameters, parameters)
    properties = node.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return seen_through(node.get("additionalProperties") if found is None else found, parameters)


def seen_through(value: object, root: Schema, depth: int = 8) -> Schema:
    """A schema, or the one that it stands for: by a reference, or by a list of one."""
    node = value if isinstance(value, dict) else {}
    for name in ("$ref", "allOf"):
        inner = node.get(name)
        is_one = isinstance(inner, str) or (isinstance(inner, list) and len(inner) == 1)
        others = {k: v for k, v in node.items() if k != name and k not in ANNOTATIONS}
        if is_one and not others.keys() - {"$defs", "definitions"}:
            found = resolve(node if name == "$ref" else node[name][0], root)
            return seen_through(found, root, depth - 1) if depth else node
    return node


def types_in(node: Schema) -> list[str]:
    """The types that a schema lists; none where it lists none."""
    kind = node.get("type")
    if isinstance(kind, str):
        return [kind]
    return [name for name in kind if isinstance(name, str)] if isinstance(kind, list) else []


def types_of(schema: Schema, root: Schema, depth: int = 8) -> frozenset[str]:
    """The types that a value may have; none where it does not say."""
    found = {*types_in(schema)}
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) and depth else ():
            found |= types_of(seen_through(option, root), root, depth - 1) or {*_ANY}
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not found and isinstance(values, list):
        found = {kind for kind in _ANY for value in values if fits(value, [kind])}
    return frozenset(found)


_ANY = ("string", "number", "boolean", "null", "array", "object")


def read_json(text: str) -> object:
    """Raises ValueError for what is no JSON, or too deep to be read."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def bare_text(value: object) -> str:
    """A value as it is written where strings have no quotes."""
    return value if isinstance(value, str) else dumped(value)


def whole_characters(text: str) -> str:
    """Halves of surrogate pairs joined where both are there, else replaced: text that can be
    sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_json(text: str, schema: Schema, root: Schema) -> str:
    """A bare text as JSON: itself where it is JSON of another type than string, else a string.
    `root` is what references in the schema are to."""
    types = types_of(schema, root)
    if types == {"string"}:
        return dumped(text)
    try:
        value = read_json(text)
    except ValueError:
        return json.dumps(_WORDS[text]) if text in _WORDS and types else dumped(text)
    if isinstance(value, str) or ("string" in types and not fits(value, types)):
        return dumped(text) if not isinstance(value, str) else text.strip()
    return text.strip()


def fits(value: object, types: Collection[str]) -> bool:
    """Whether a value is of one of the types."""
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        is_whole = value == value // 1
        return "number" in types or (is_whole and "integer" in types)
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names[type(value)] in types
