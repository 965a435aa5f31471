"""Which JSON schemas can be followed, and where in a schema the first thing is that cannot.

llguidance compiles a schema as a whole and says little about where it failed. So every keyword is
looked at here first: those that constrain an answer, those that only annotate, and the rest, which
are refused, since an ignored constraint is a wrong answer. Paths are JSONPath: `$.properties.age`.
"""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS, RULES

Schema = dict[str, object]
Children = Callable[[object], Iterator[tuple[str, object]]]

MAX_SUBSCHEMAS = 4096


class SchemaError(ValueError):
    """A schema that cannot be followed: `rule` completes the sentence that `path` begins."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path} {rule}")
        self.path = path
        self.rule = rule


def check_schema(schema: object) -> None:
    """Raises `SchemaError` at the first keyword, in document order, that cannot be followed."""
    for count, (path, node) in enumerate(subschemas(schema)):
        if count == MAX_SUBSCHEMAS:
            raise SchemaError("$", f"holds more than {MAX_SUBSCHEMAS} schemas.")
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise SchemaError(path, "must be a schema: an object, true or false.")
        for keyword, value in node.items():
            _check_keyword(f"{path}{step_of(keyword)}", keyword, value, schema)
        if rule := few_properties(node):
            raise SchemaError(f"{path}.minProperties", rule)


def few_properties(node: Schema) -> str:
    """JSON may hold a key twice: two keys that the schema does not name need not be two."""
    wanted, required = node.get("minProperties", 0), node.get("required", [])
    named = len(set(required)) if isinstance(required, list) else 0
    is_open = "patternProperties" in node or node.get("additionalProperties") is not False
    if isinstance(wanted, int) and is_open and wanted > named + 1:
        return f"must be at most {named + 1}: of more keys some could be the same."
    return ""


def subschemas(node: object, path: str = "$") -> Iterator[tuple[str, object]]:
    """The schema and all schemas in it, outer before inner, each with its path."""
    yield path, node
    if isinstance(node, dict):
        for keyword, value in node.items():
            for step, child in subschemas_of(keyword, value):
                yield from subschemas(child, f"{path}{step_of(keyword)}{step}")


def subschemas_of(keyword: str, value: object) -> Iterator[tuple[str, object]]:
    """(step of the path, schema) of each that a keyword holds."""
    yield from _HOLDS.get(keyword, _nothing)(value)


def step_of(name: str) -> str:
    """`.name`, or `['a name']` where a name is not a word; a long one is cut."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    return f".{shown}" if re.fullmatch(r"[$\w-]+…?", shown) else f"[{shown!r}]"


def _check_keyword(path: str, keyword: str, value: object, root: object) -> None:
    if keyword in ANNOTATIONS or (keyword.startswith("x-") and keyword != "x-guidance"):
        return
    if keyword not in RULES:
        raise SchemaError(path, "is not a keyword that can be followed.")
    if rule := RULES[keyword](value):
        raise SchemaError(path, rule)
    if keyword == "$ref" and (rule := held_reference(str(value), root)):
        raise SchemaError(path, rule)


def held_reference(reference: str, root: object) -> str:
    """What is wrong with a reference, or ""."""
    if not reference.startswith("#"):
        return "must begin with '#': nothing outside the schema is fetched."
    if reference.startswith("#/") and _follow(reference, root) is None:
        return "points to nothing in the schema."
    return ""


def pointed_at(reference: object, root: object) -> object:
    """What a reference by a path points to; None where it is none, or points to nothing."""
    if reference == "#":
        return root
    is_path = isinstance(reference, str) and reference.startswith("#/")
    return _follow(str(reference), root) if is_path else None


def _follow(reference: str, root: object) -> object:
    """What a reference from the root points to; None for nothing."""
    node = root
    for raw in reference[2:].split("/"):
        step = unquote(raw).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node


def resolve(node: object, root: object, max_steps: int = 16) -> object:
    """The schema that a schema of a reference and nothing else stands for."""
    for _ in range(max_steps):
        reference = node.get("$ref") if isinstance(node, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        node = _follow(reference, root)
    return node


# --- what holds schemas: each yields (step of the path, schema) ---


def _nothing(_: object) -> Iterator[tuple[str, object]]:
    yield from ()


def _one(value: object) -> Iterator[tuple[str, object]]:
    yield "", value


def _list(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))


def _map(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((step_of(name), item) for name, item in value.items())


def _one_or_list(value: object) -> Iterator[tuple[str, object]]:
    return _list(value) if isinstance(value, list) else _one(value)


_HOLDS: dict[str, Children] = {
    "$defs": _map,
    "additionalItems": _one,
    "additionalProperties": _one,
    "allOf": _list,
    "anyOf": _list,
    "definitions": _map,
    "items": _one_or_list,
    "oneOf": _list,
    "patternProperties": _map,
    "prefixItems": _list,
    "properties": _map,
}
