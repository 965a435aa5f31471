"""What a schema leaves open, said: any value, with numbers that end.

    {}  true                               {"$ref": "#/$defs/any"}
    {"type": "object"}                     and "additionalProperties": {"$ref": "#/$defs/any"}
    {"minimum": 1}                         and "type": [all of them]

A schema means the same afterwards, but for the digits of numbers.
"""

from thirdeye.server.text.constraints.json_schema import Schema
from thirdeye.server.text.constraints.rewrites.number_caps import cap_numbers
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS

_ALL_TYPES = ("null", "boolean", "number", "string", "array", "object")
_COMBINED = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_TABLES = ("properties", "patternProperties")


class OpenValues:
    """Of one schema. `root` is the whole of it, which gets the definition of any value."""

    def __init__(self, root: object) -> None:
        self._root = root if isinstance(root, dict) else {}
        defs = self._root.get("$defs")
        name = "any"
        while isinstance(defs, dict) and name in defs:
            name += "_"
        self._name = name
        self._is_used = False

    def cap(self, node: Schema) -> None:
        """In place; the node is no part of several that an object must satisfy together."""
        if _COMBINED & node.keys() or {"const", "enum"} & node.keys():
            return
        if "type" not in node:
            if node is not self._root and node.keys() <= ANNOTATIONS:
                node |= self._any()
                return
            node["type"] = list(_ALL_TYPES)
        kind = node["type"]
        kinds = kind if isinstance(kind, list) else [kind]
        if "object" in kinds:
            self._open(node, "additionalProperties")
        if "array" in kinds:
            is_old = isinstance(node.get("items"), list)
            self._open(node, "additionalItems" if is_old else "items")
        for keyword in _TABLES:
            table = node.get(keyword)
            if isinstance(table, dict):
                table |= {key: self._any() for key, value in table.items() if value is True}

    def _open(self, node: Schema, keyword: str) -> None:
        if node.get(keyword, True) is True:
            node[keyword] = self._any()

    def _any(self) -> Schema:
        self._is_used = True
        return {"$ref": f"#/$defs/{self._name}"}

    def define(self) -> None:
        """The definition, where something refers to it."""
        if not self._is_used:
            return
        node: Schema = {
            "type": list(_ALL_TYPES),
            "items": self._any(),
            "additionalProperties": self._any(),
        }
        cap_numbers(node)
        defs = self._root.setdefault("$defs", {})
        assert isinstance(defs, dict), "it was checked"
        defs[self._name] = node
