"""What the grammars of arguments that are no JSON share: rules, grammars beside them, and the paths
of what a form cannot hold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thirdeye.server.text.constraints.constraint import works
from thirdeye.server.text.constraints.exclusive_branches import exclude_each_other
from thirdeye.server.text.constraints.followable import asks_nothing
from thirdeye.server.text.constraints.json_schema import step_of
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS
from thirdeye.server.text.constraints.string_terminals import (
    lark_regex,
    string_terminals,
    without_text,
)
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.tools.call_grammar import held_schema, only_part
from thirdeye.server.text.tools.definitions import Tool
from thirdeye.server.text.tools.families.typed_values import Schema, fits, seen_through, types_in

NOT_HELD = "cannot be held in the form in which this model writes calls."
_DEFINITIONS = ("$defs", "definitions")
_STRING = ("type", "enum", "const", "pattern", "minLength", "maxLength", "format")


def literal(text: str) -> str:
    """A text in a grammar."""
    return json.dumps(text, ensure_ascii=False)


class ArgumentRules:
    """The grammar of one tool's arguments, as it is written down."""

    def __init__(self, name: str, tool: Tool) -> None:
        """`name` begins all of its rules."""
        self.name = name
        self.rules: list[str] = []
        self.side: list[dict[str, Any]] = []  # grammars that the rules refer to by name
        self.left_out: list[str] = []  # paths of keywords
        self.tool = tool
        self.root = tool.arguments_schema

    def leave_out(self, path: str) -> None:
        """Raises `ConstraintError` for a strict tool."""
        if self.tool.strict:
            raise ConstraintError(NOT_HELD, path)
        self.left_out.append(path)

    def leave_out_but(self, node: Schema, path: str, held: Sequence[str]) -> None:
        """All keywords of a node that ask for something, but those that are held."""
        for keyword, value in node.items():
            is_held = keyword in ANNOTATIONS or keyword in held or keyword.startswith("x-")
            if not is_held and not asks_nothing(keyword, value, dict(node)):
                self.leave_out(path + step_of(keyword))

    def node(self, value: object) -> Schema:
        return seen_through(value, self.root)

    def properties(self, node: Schema) -> dict[str, object]:
        """Those that are listed, and those that must be there all the same."""
        found = node.get("properties")
        listed = dict(found) if isinstance(found, Mapping) else {}
        extra = node.get("additionalProperties", {})
        return listed | {key: extra for key in self.required(node) if key not in listed}

    def required(self, node: Schema) -> list[str]:
        found = node.get("required")
        return [*found] if isinstance(found, list) else []

    def check_object(self, node: Schema, path: str) -> None:
        """Leaves out what the rules of an object's members do not say."""
        held = ["type", "properties", "required", "additionalProperties", *_DEFINITIONS]
        properties = self.properties(node)
        if properties or node.get("additionalProperties") is False:
            least, most = node.get("minProperties", 0), node.get("maxProperties")
            is_enough = isinstance(least, int) and least <= len(set(self.required(node)))
            held += ["minProperties"] if is_enough else []
            held += ["maxProperties"] if isinstance(most, int) and most >= len(properties) else []
        self.leave_out_but(node, path, held)

    def json(self, rule: str, node: Schema) -> None:
        """The grammar `@<rule>`: JSON of a schema."""
        shared = {key: self.root[key] for key in _DEFINITIONS if key in self.root}
        held, _ = held_schema(shared | dict(node), self.tool)
        self.side.append({**only_part(held), "name": rule})

    def choices(self, node: Schema) -> list[object] | None:
        """The values that a node lists; None where it lists none."""
        values = [node["const"]] if "const" in node else node.get("enum")
        if not isinstance(values, list):
            return None
        kinds = types_in(node)
        return [value for value in values if not kinds or fits(value, kinds)]

    def options(self, node: Schema, path: str) -> Iterator[tuple[Schema, str]]:
        """(schema, path) of each of which a value is one: branches, types, or the node itself."""
        for keyword in ("anyOf", "oneOf"):
            branches = node.get(keyword)
            if not isinstance(branches, list):
                continue
            self.leave_out_but(node, path, (keyword, "type", *_DEFINITIONS))
            if keyword == "oneOf" and not exclude_each_other(branches, self.root):
                self.leave_out(f"{path}.oneOf")
            for i, branch in enumerate(branches):
                yield from self.options(self.node(branch), f"{path}.{keyword}[{i}]")
            return
        kinds = types_in(node)
        if len(kinds) < 2 or self.choices(node) is not None:
            yield node, path
        else:
            yield from ((self._of_type(node, kind), path) for kind in kinds)

    def _of_type(self, node: Schema, kind: str) -> Schema:
        """What a node says of the values of one of its types."""
        rest = {k: v for k, v in node.items() if k not in _OF_TYPE or kind in _OF_TYPE[k]}
        return rest | {"type": kind}

    def string(self, node: Schema, path: str, mark: str) -> str:
        """A terminal: the texts that a string may be, without `mark` in them; "" for any text."""
        self.leave_out_but(node, path, _STRING)
        held: list[str] = []
        choices = self.choices(node)
        if choices is not None:
            texts = [literal(text) for text in choices if isinstance(text, str)]
            held += [f"({' | '.join(texts)})"] if texts else []
        for keyword, pattern in string_terminals(node):
            terminal = lark_regex(pattern)
            if pattern and works(f"start: T\nT: {terminal}"):
                held.append(terminal)
            else:
                self.leave_out(path + step_of(keyword))
        return f"({' & '.join([*held, without_text(mark)])})" if held else ""


_NUMBERS = ("number", "integer")
_OF_TYPE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pattern", "minLength", "maxLength", "format"), ("string",)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBERS),
    "multipleOf": _NUMBERS,
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"), ("array",)),
    **dict.fromkeys(("properties", "required", "additionalProperties"), ("object",)),
    **dict.fromkeys(("minProperties", "maxProperties", "patternProperties"), ("object",)),
}
