"""Arguments in a notation of values in values, as a grammar: Gemma's and Python's.

Gemma     a:1,b:<|"|>x<|"|>,c:{d:[true]}}     strings stand between marks, as they are
Python    a=1, b="x", c={"d": [True]})        JSON is read too, and holds what Python's rules do
                                              not
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thirdeye.server.text.constraints.constraint import checked_lark
from thirdeye.server.text.constraints.schema_keywords import ANNOTATIONS
from thirdeye.server.text.constraints.terminals_of import may_hold
from thirdeye.server.text.tools.call_grammar import quoted_string
from thirdeye.server.text.tools.definitions import Tool
from thirdeye.server.text.tools.families.argument_rules import ArgumentRules, literal
from thirdeye.server.text.tools.families.call_form import Arguments
from thirdeye.server.text.tools.families.typed_values import Schema, dumped, types_in

MAX_DEPTH = 6  # of schemas that are followed by rules


@dataclass(frozen=True, slots=True)
class Notation:
    """How values are written. `rules` are those of any value: `value`, `string`, `list`..."""

    colon: str  # between an argument's name and its value
    comma: str
    last: str  # behind all arguments
    key: str  # a member's, with what follows it; KEY is its name
    any_key: str  # the same of any name, as a rule
    words: dict[object, str]
    rules: tuple[str, ...]


GEMMA = Notation(
    colon=":",
    comma=",",
    last="}",
    key="KEY:",
    any_key='KEY ":"',
    words={True: "true", False: "false", None: "null"},
    rules=(
        r'string[lazy]: "<|\"|>" TEXT "<|\"|>"',
        'value: string | NUMBER | "true" | "false" | "null" | list | object',
        'list: "[" (value ("," value)*)? "]"',
        'object: "{" (KEY ":" value ("," KEY ":" value)*)? "}"',
        "NUMBER: /-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,9})?/",
        "INTEGER: /-?(0|[1-9][0-9]{0,15})/",
        "KEY: /[a-zA-Z0-9_-]{1,64}/",
    ),
)
PYTHON = Notation(
    colon="=",
    comma=", ",
    last=")",
    key='"KEY": ',
    any_key='string ": "',
    words={True: "True", False: "False", None: "None"},
    rules=(
        r'string: /"([^"\\\n]|\\["\\n])*"/',
        'value: string | NUMBER | "True" | "False" | "None" | list | object',
        'list: "[" (value (", " value)*)? "]"',
        'object: "{" (string ": " value (", " string ": " value)*)? "}"',
        "NUMBER: /-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,9})?/",
        "INTEGER: /-?(0|[1-9][0-9]{0,15})/",
        "KEY: /[a-zA-Z_][a-zA-Z0-9_]{0,63}/",
    ),
)
RULES = {Arguments.GEMMA: GEMMA.rules, Arguments.PYTHON: PYTHON.rules}
_MARK = '<|"|>'
_RULES = {"string": "string", "number": "NUMBER", "integer": "INTEGER", "array": "list"}
_ARRAY = ("type", "items", "minItems", "maxItems")


class NestedRules(ArgumentRules):
    def __init__(self, name: str, tool: Tool, kind: Arguments) -> None:
        super().__init__(name, tool)
        self._notation = GEMMA if kind is Arguments.GEMMA else PYTHON
        if tool.text_input is not None and tool.text_input.lark is not None:
            self._text_of(checked_lark(tool.text_input.lark), tool.text_input.NAME)
            return
        node = self.node(self.root)
        self.check_object(node, "$")
        properties = self.properties(node)
        if properties or node.get("additionalProperties") is False:
            keys = [f"{key}{self._notation.colon}" for key in properties]
            self._members(name, node, "$", keys, 0)
        else:
            extra = self._free(name, node, "$", 0)
            member = f"KEY {literal(self._notation.colon)} {extra}"
            more = f"({literal(self._notation.comma)} {member})*"
            self.rules.append(f"{name}_members: ({member} {more})?")
        self.rules.append(f"{name}: {name}_members {literal(self._notation.last)}")

    def _text_of(self, grammar: str, key: str) -> None:
        """The one argument, a text of a grammar: between marks if no terminal takes these, or in
        quotes as JSON has it."""
        text = "string"
        if self._notation is GEMMA and not may_hold(grammar, _MARK[0]):
            self.side.append({"lark_grammar": grammar, "name": f"{self.name}_text"})
            text = f"{literal(_MARK)} @{self.name}_text {literal(_MARK)}"
        elif self._notation is PYTHON and (quoted := quoted_string(grammar)) is not None:
            self.side.append({"lark_grammar": quoted, "name": f"{self.name}_text"})
            text = f"@{self.name}_text"
        else:
            self.left_out.append("$")
        opening = literal(f"{key}{self._notation.colon}")
        self.rules.append(f"{self.name}: {opening} {text} {literal(self._notation.last)}")

    def _free(self, name: str, node: Schema, path: str, depth: int) -> str:
        """The rule of the values of any other property."""
        extra = self.node(node.get("additionalProperties", {}))
        if extra.keys() <= ANNOTATIONS:
            return "value"
        self._value(f"{name}_any", extra, f"{path}.additionalProperties", depth)
        return f"{name}_any"

    def _members(self, name: str, node: Schema, path: str, keys: Sequence[str], depth: int) -> None:
        """The rule `<name>_members`: properties in order, commas between those that are there."""
        required, comma = set(self.required(node)), literal(self._notation.comma)
        properties = [*self.properties(node).items()]
        self.rules.append(f"{name}_members: {name}_first_0")
        for j, (key, inner) in enumerate(properties):
            self._value(f"{name}_{j}", self.node(inner), f"{path}.properties.{key}", depth)
            member = f"{literal(keys[j])} {name}_{j} {name}_rest_{j + 1}"
            for what, before in (("first", ""), ("rest", comma)):
                without = "" if key in required else f" | {name}_{what}_{j + 1}"
                self.rules.append(f"{name}_{what}_{j}: {before} {member}{without}")
        self.rules.append(f'{name}_first_{len(properties)}: ""')
        self.rules.append(f'{name}_rest_{len(properties)}: ""')

    def _value(self, name: str, node: Schema, path: str, depth: int) -> None:
        """The rule `name`: a value of the schema."""
        choices = self.choices(node)
        if choices is not None:
            found = [literal(self._written(value)) for value in choices]
        elif self._notation is PYTHON and not self._is_plain(node, depth):
            self.json(f"{name}_json", node)
            found = [f"@{name}_json"]
        else:
            options = [*self.options(node, path)]
            found = [
                self._one(f"{name}_{i}_" if len(options) > 1 else name, option, where, depth)
                for i, (option, where) in enumerate(options)
            ]
        self.rules.append(f"{name}: {' | '.join(found)}")

    def _one(self, name: str, node: Schema, path: str, depth: int) -> str:
        """What a value of one type, or of any, is."""
        kind = "".join(types_in(node))
        if self.choices(node) is not None:
            self._value(f"{name}_choice", node, path, depth)
            return f"{name}_choice"
        if kind == "string":
            return self._string(name, node, path)
        if kind in ("number", "integer"):
            if node.keys() - ANNOTATIONS == {"type"}:
                return _RULES[kind]
            self.json(f"{name}_json", node)
            return f"@{name}_json"
        if kind in ("array", "object") and depth < MAX_DEPTH:
            write = self._array if kind == "array" else self._object
            return write(name, node, path, depth)
        self.leave_out_but(node, path, ("type",) if kind in ("boolean", "null") else ())
        words = self._notation.words
        any_of = {"boolean": f"{literal(words[True])} | {literal(words[False])}"}
        any_of["null"] = literal(words[None])
        return any_of.get(kind) or (kind if kind == "object" else _RULES.get(kind, "value"))

    def _string(self, name: str, node: Schema, path: str) -> str:
        if self._notation is PYTHON:
            return "string"
        terminal = self.string(node, path, _MARK)
        if not terminal:
            return "string"
        self.rules.append(f"{name}_T: {terminal}".replace(name, name.upper(), 1))
        self.rules.append(f"{name}_text[lazy]: {name.upper()}_T {literal(_MARK)}")
        return f"{literal(_MARK)} {name}_text"

    def _array(self, name: str, node: Schema, path: str, depth: int) -> str:
        self.leave_out_but(node, path, _ARRAY)
        least, most = node.get("minItems") or 0, node.get("maxItems")
        if most == 0:
            return '"[" "]"'
        self._value(f"{name}_item", self.node(node.get("items")), f"{path}.items", depth + 1)
        more = f"({literal(self._notation.comma)} {name}_item)"
        limit = "" if most is None else most - 1
        inner = f"{name}_item" + ("" if most == 1 else f" {more}{{{max(least - 1, 0)},{limit}}}")
        return f'"[" {inner if least else f"({inner})?"} "]"'

    def _object(self, name: str, node: Schema, path: str, depth: int) -> str:
        self.check_object(node, path)
        properties = self.properties(node)
        if properties or node.get("additionalProperties") is False:
            keys = [self._notation.key.replace("KEY", key) for key in properties]
            self._members(name, node, path, keys, depth + 1)
            return f'"{{" {name}_members "}}"'
        extra = self._free(name, node, path, depth + 1)
        if extra == "value":
            return "object"
        member = f"{self._notation.any_key} {extra}"
        return f'"{{" ({member} ({literal(self._notation.comma)} {member})*)? "}}"'

    def _is_plain(self, node: Schema, depth: int) -> bool:
        """Whether Python's rules hold all that a schema asks."""
        if self.choices(node) is not None:
            return True
        if len(types_in(node)) > 1 or depth > MAX_DEPTH:
            return False
        asked, kind = node.keys() - ANNOTATIONS, "".join(types_in(node))
        if kind == "array":
            inner = [node.get("items", {})]
            return asked <= {*_ARRAY} and self._are_plain(inner, depth)
        if kind == "object":
            held = {"type", "properties", "required", "additionalProperties"}
            extra = node.get("additionalProperties")
            inner = [*self.properties(node).values(), extra if isinstance(extra, dict) else {}]
            return asked <= held and self._are_plain(inner, depth)
        return asked <= {"type"}

    def _are_plain(self, nodes: Sequence[object], depth: int) -> bool:
        return all(self._is_plain(self.node(node), depth + 1) for node in nodes)

    def _written(self, value: object) -> str:
        """A value in the notation."""
        if value is None or isinstance(value, bool):
            return self._notation.words[value]
        if isinstance(value, list):
            return f"[{self._notation.comma.join(map(self._written, value))}]"
        if isinstance(value, dict):
            return f"{{{self._notation.comma.join(self._pairs(value))}}}"
        if isinstance(value, str) and self._notation is GEMMA:
            return f"{_MARK}{value}{_MARK}"
        return dumped(value)

    def _pairs(self, value: dict[str, object]) -> Iterator[str]:
        for key, inner in value.items():
            name = key if self._notation is GEMMA else dumped(key)[1:-1]
            yield self._notation.key.replace("KEY", name) + self._written(inner)
