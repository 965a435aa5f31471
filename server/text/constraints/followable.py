"""A JSON schema as the grammar can follow it: the same answers, said in words that llguidance has.

* Keywords that ask for nothing, and annotations, are taken out.
* `oneOf` whose branches exclude each other is `anyOf`.
* A number has at most 16 digits before its point and 9 behind, also where the schema says nothing
  (`open_values.py`): a weak model comes to its end. A time is one that there is.
* `is_closed`: an object that lists its properties and does not say whether others may come has no
  others. Without this a small model invents keys until its limit.
* `is_lenient`: what cannot be followed is left out, and its paths are told. Without this it stays
  where it is, to be refused by `check_schema`.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from thirdeye.server.text.constraints.exclusive_branches import exclude_each_other
from thirdeye.server.text.constraints.json_schema import (
    Schema,
    few_properties,
    held_reference,
    step_of,
    subschemas,
    subschemas_of,
)
from thirdeye.server.text.constraints.rewrites.counted_properties import list_sets
from thirdeye.server.text.constraints.rewrites.number_caps import cap_numbers, narrow
from thirdeye.server.text.constraints.rewrites.open_values import OpenValues
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS, FORMATS, RULES
from thirdeye.server.text.constraints.string_terminals import FORMAT_PATTERNS

_TIMES = ("date", "time", "date-time")
_COMBINED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "patternProperties"})


@dataclass(slots=True)
class Followable:
    schema: object
    left_out: list[str] = field(default_factory=list)  # paths of keywords


def followable(
    schema: object, *, is_closed: bool = False, is_lenient: bool = False, caps_numbers: bool = True
) -> Followable:
    """The schema rewritten. It is not checked here, and may hold anything."""
    found = Followable({} if schema is True and caps_numbers else deepcopy(schema))
    rewriter = _Rewriter(found, is_closed, is_lenient, caps_numbers)
    rewriter.rewrite(found.schema, "$", is_part=False)
    if rewriter.open_values is not None:
        rewriter.open_values.define()
    return found


def leave_out(found: Followable, path: str) -> bool:
    """Takes the keyword at `path` out; of a schema there, all but its type, a `pattern` first and
    alone, since what it cannot say fails most often. Whether there was something to leave out."""
    nodes = {where: node for where, node in subschemas(found.schema) if isinstance(node, dict)}
    for where, node in nodes.items():
        for word in node:
            if path == f"{where}{step_of(word)}":
                del node[word]
                found.left_out.append(path)
                return True
    inside = [where for where in nodes if path.startswith(where) and where != "$"]
    if not inside:
        return False
    node = nodes[where := max(inside, key=len)]
    if "pattern" in node and path in (where, f"{where}.pattern"):
        del node["pattern"]
        found.left_out.append(f"{where}.pattern")
        return True
    kept = {"type": node["type"]} if "type" in node and path == where and len(node) > 1 else {}
    node.clear()
    node.update(kept)
    found.left_out.append(path)
    return True


class _Rewriter:
    def __init__(self, found: Followable, closes: bool, is_lenient: bool, caps: bool) -> None:
        self._found = found
        self._closes = closes
        self._is_lenient = is_lenient
        self.open_values = OpenValues(found.schema) if caps else None

    def rewrite(self, node: object, path: str, *, is_part: bool) -> None:
        """In place. `is_part`: the node is one of several that an object must satisfy together."""
        if not isinstance(node, dict):
            return
        narrow(node)
        sent = dict(node)
        for keyword, value in sent.items():
            if asks_nothing(keyword, value, sent):
                del node[keyword]
            elif self._is_lenient and not _is_followed(keyword, value, self._found.schema):
                self._leave_out(node, keyword, path)
        if self._is_lenient and few_properties(node):
            self._leave_out(node, "minProperties", path)
        self._tell_apart(node, path)
        for keyword in list(node):
            joins = keyword == "allOf" or (keyword in _COMBINED and "properties" in node)
            for step, child in subschemas_of(keyword, node[keyword]):
                below = f"{path}{step_of(keyword)}{step}"
                self.rewrite(child, below, is_part=joins or (is_part and keyword in _COMBINED))
        if self._closes and not is_part and _may_be_closed(node):
            node["additionalProperties"] = False
        if self.open_values is not None:
            list_sets(node)
            if not is_part:
                self.open_values.cap(node)
            cap_numbers(node)
            _say_times(node)

    def _leave_out(self, node: Schema, keyword: str, path: str) -> None:
        del node[keyword]
        self._found.left_out.append(f"{path}{step_of(keyword)}")

    def _tell_apart(self, node: Schema, path: str) -> None:
        branches = node.get("oneOf")
        if not isinstance(branches, list) or "anyOf" in node:
            return
        if exclude_each_other(branches, self._found.schema):
            node["anyOf"] = node.pop("oneOf")
        elif self._is_lenient:
            self._leave_out(node, "oneOf", path)
            node["anyOf"] = branches


def asks_nothing(keyword: str, value: object, node: Schema) -> bool:
    """Whether the keyword, with this value, lets every answer pass."""
    match keyword:
        case "uniqueItems" | "nullable":
            return value is False
        case "minProperties":
            required = node.get("required")
            num_required = len(set(map(str, required))) if isinstance(required, list) else 0
            return isinstance(value, int) and value <= num_required
        case "maxProperties":
            listed = node.get("properties", {})
            is_closed = node.get("additionalProperties") is False
            is_listed = isinstance(listed, dict) and "patternProperties" not in node
            return isinstance(value, int) and is_closed and is_listed and _size(listed) <= value
        case "contains":
            return node.get("minContains") == 0 and "maxContains" not in node
        case "minContains":
            return value == 0 or "contains" not in node
        case "maxContains" | "contentSchema":
            return keyword == "contentSchema" or "contains" not in node
        case "dependentRequired" | "dependentSchemas" | "dependencies":
            return value == {}
        case "unevaluatedProperties" | "unevaluatedItems":
            return value is True or value == {}
        case "not":
            return value is False
        case "$schema":
            return not str(value).startswith("http")
        case "if":
            return "then" not in node and "else" not in node
        case "then" | "else":
            return "if" not in node
        case "propertyNames":
            return value is True or value == {} or _is_any_string(value)
        case "format":
            return isinstance(value, str) and value not in FORMATS
    return False


def _size(value: object) -> int:
    return len(value) if isinstance(value, dict) else 0


def _is_any_string(value: object) -> bool:
    known = ANNOTATIONS | {"type"}
    return isinstance(value, dict) and value.get("type") == "string" and value.keys() <= known


def _is_followed(keyword: str, value: object, root: object) -> bool:
    if keyword in ANNOTATIONS or (keyword.startswith("x-") and keyword != "x-guidance"):
        return True
    if keyword not in RULES or RULES[keyword](value):
        return False
    return keyword != "$ref" or held_reference(str(value), root) == ""


def _say_times(node: Schema) -> None:
    """Times as every validator takes them: llguidance's have a second 60, and small letters."""
    if node.get("format") in _TIMES and "pattern" not in node:
        node["pattern"] = f"^(?:{FORMAT_PATTERNS[str(node.pop('format'))]})$"


def _may_be_closed(node: Schema) -> bool:
    properties = node.get("properties")
    if not isinstance(properties, dict) or not properties or _COMBINED & node.keys():
        return False
    required = node.get("required", [])
    is_listed = isinstance(required, list) and all(name in properties for name in required)
    return is_listed and "additionalProperties" not in node
