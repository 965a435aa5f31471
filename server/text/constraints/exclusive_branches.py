"""Whether the branches of a `oneOf` exclude each other, as far as types and constants tell: then
one of them at most takes a value, and `anyOf` says the same.
"""

from collections.abc import Iterator
from itertools import combinations

from thirdeye.server.text.constraints.json_schema import Schema, resolve


def exclude_each_other(branches: list[object], root: object) -> bool:
    """Whether no value is of two branches, as far as types and constants tell."""
    kinds = [_Kind(resolve(branch, root), root) for branch in branches]
    return all(a.excludes(b) for a, b in combinations(kinds, 2))


class _Kind:
    """What is certain of the values of one branch: their types, and constants of their keys."""

    def __init__(self, node: object, root: object) -> None:
        fields = node if isinstance(node, dict) else {}
        self.values = _values_of(fields)
        self.types = set(_types_of(fields)) if self.values is None else None
        required = fields.get("required")
        properties = fields.get("properties")
        self.tags: dict[str, list[object]] = {}
        if self.types == {"object"} and isinstance(properties, dict) and isinstance(required, list):
            for name in required:
                values = _values_of(resolve(properties.get(name), root))
                if values is not None:
                    self.tags[name] = values

    def excludes(self, other: "_Kind") -> bool:
        if self.values is not None and other.values is not None:
            return _are_apart(self.values, other.values)
        if self.values is None and other.values is None:
            if self.types and other.types and not self.types & other.types:
                return True
            shared = self.tags.keys() & other.tags.keys()
            return any(_are_apart(self.tags[name], other.tags[name]) for name in shared)
        constant, plain = (self, other) if self.values is not None else (other, self)
        kinds = {kind for value in constant.values or [] for kind in _types_of_value(value)}
        return bool(plain.types) and not kinds & (plain.types or set())


def _values_of(node: object) -> list[object] | None:
    if not isinstance(node, dict):
        return None
    if "const" in node:
        return [node["const"]]
    values = node.get("enum")
    return values if isinstance(values, list) else None


def _types_of(fields: Schema) -> Iterator[str]:
    """Of a number it is not certain that it is no integer."""
    kind = fields.get("type")
    for name in kind if isinstance(kind, list) else [kind]:
        if isinstance(name, str):
            yield name
        if name == "number":
            yield "integer"


def _types_of_value(value: object) -> set[str]:
    names: list[tuple[type, str]] = [(str, "string"), (list, "array"), (dict, "object")]
    if isinstance(value, bool) or value is None:
        return {"null" if value is None else "boolean"}
    if isinstance(value, int | float):
        return {"integer", "number"}
    return {name for kind, name in names if isinstance(value, kind)}


def _are_apart(a: list[object], b: list[object]) -> bool:
    return not any(_plain(x) == _plain(y) for x in a for y in b)


def _plain(value: object) -> tuple[bool, object]:
    """`true` is not 1."""
    return isinstance(value, bool), value
