"""Arguments that are texts between tags, as a grammar: XML's, DSML's and pairs'.

A string stands there as it is, everything else as JSON. What a string must be is a terminal that
ends with the first closing tag; all else is held by the grammar of its JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from thirdeye.server.text.constraints.constraint import checked_lark
from thirdeye.server.text.constraints.terminals_of import free_of, may_hold
from thirdeye.server.text.tools.definitions import Tool
from thirdeye.server.text.tools.families.argument_rules import ArgumentRules, literal
from thirdeye.server.text.tools.families.call_form import Arguments
from thirdeye.server.text.tools.families.deepseek_forms import DSML
from thirdeye.server.text.tools.families.typed_values import (
    Schema,
    as_json,
    bare_text,
    read_json,
    types_in,
)

_WORDS = {"null": '"null"', "boolean": '"true" | "false"'}


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands around a value; KEY is its name, KIND whether it is a string."""

    begin: str
    mark: str  # the first of these ends it
    last: str  # behind all values
    before_mark: str = ""

    @property
    def end(self) -> str:
        return f"{self.before_mark}{self.mark}\n"

    @property
    def tells_strings(self) -> bool:
        return "KIND" in self.begin


TAGS = {
    Arguments.XML: Tags("<parameter=KEY>\n", "</parameter>", "</function>", before_mark="\n"),
    Arguments.PAIRS: Tags("<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>", "</tool_call>"),
    Arguments.DSML: Tags(
        f'<{DSML}parameter name="KEY" string="KIND">', f"</{DSML}parameter>", f"</{DSML}invoke>"
    ),
}


class BareRules(ArgumentRules):
    def __init__(self, name: str, tool: Tool, kind: Arguments) -> None:
        super().__init__(name, tool)
        self._tags = TAGS[kind]
        if tool.text_input is not None and tool.text_input.lark is not None:
            self._text_of(checked_lark(tool.text_input.lark), tool.text_input.NAME)
            return
        node = self.node(self.root)
        self.check_object(node, "$")
        members: list[str] = []
        for j, (key, inner) in enumerate(self.properties(node).items()):
            rule = f"{name}_{j}"
            members.append(rule if key in self.required(node) else f"{rule}?")
            self._value(rule, key, self.node(inner), f"$.properties.{key}")
        if not members and node.get("additionalProperties", True) is not False:
            members = [f"{name}_any*"]
            extra = self.node(node.get("additionalProperties", {}))
            self._value(members[0][:-1], None, extra, "$.additionalProperties")
        self.rules.append(f"{name}: {' '.join(members)} {literal(self._tags.last)}")

    def _text_of(self, grammar: str, key: str) -> None:
        """The one argument, a text of a grammar: if that ends where its tag begins. A terminal
        takes the longest text that fits, and must not be able to take the tag."""
        tags, rule = self._tags, f"{self.name}_0"
        begins = f"{tags.before_mark}{tags.mark[0]}"
        if may_hold(grammar, begins):
            self.left_out.append("$")
            self.rules.append(f"{rule}_text[lazy]: TEXT {literal(tags.end)}")
            text = f"{rule}_text"
        else:
            free = free_of(grammar, tags.mark)
            self.side.append({"lark_grammar": free, "name": f"{rule}_grammar"})
            text = f"@{rule}_grammar {literal(tags.end)}"
        opening = self._opening(key, is_string=True)
        self.rules.append(f"{self.name}: {opening} {text} {literal(tags.last)}")

    def _opening(self, key: str | None, *, is_string: bool) -> str:
        begin = self._tags.begin.replace("KIND", "true" if is_string else "false")
        if key is not None:
            return literal(begin.replace("KEY", key))
        before, after = begin.split("KEY")
        return f"{literal(before)} /[a-zA-Z0-9_-]{{1,64}}/ {literal(after)}"

    def _value(self, rule: str, key: str | None, node: Schema, path: str) -> None:
        """The rule of one argument: its tags, and what stands between them."""
        choices = self.choices(node)
        if choices is not None:
            found = [*self._choices(choices, key, node, path)]
        else:
            options = [*self.options(node, path)]
            strings = [option for option in options if self._may_be(option[0], is_string=True)]
            others = [option for option in options if self._may_be(option[0], is_string=False)]
            found = [*self._strings(rule, key, strings, others)] if strings else []
            if others and (self._tags.tells_strings or not strings):
                self.json(f"{rule}_json", node)
                opening = self._opening(key, is_string=False)
                found.append(f"{opening} @{rule}_json {literal(self._tags.end)}")
        self.rules.append(f"{rule}: {' | '.join(found)}")

    def _may_be(self, node: Schema, *, is_string: bool) -> bool:
        """Whether a value of the schema may be a string, or something else."""
        choices = self.choices(node)
        if choices is not None:
            return any(isinstance(value, str) is is_string for value in choices)
        kinds = types_in(node)
        return not kinds or (kinds == ["string"]) is is_string

    def _choices(
        self, values: Sequence[object], key: str | None, node: Schema, path: str
    ) -> Sequence[str]:
        """Each value; as a text that says another one of them, it says that."""
        found: list[str] = []
        for value in values:
            text = bare_text(value)
            said = value if self._tags.tells_strings else read_json(as_json(text, node, self.root))
            if self._tags.mark in text or said not in values:
                self.leave_out(f"{path}.{'const' if 'const' in node else 'enum'}")
            else:
                opening = self._opening(key, is_string=isinstance(value, str))
                found.append(f"{opening} {literal(text + self._tags.end)}")
        return found

    def _strings(
        self,
        rule: str,
        key: str | None,
        strings: Sequence[tuple[Schema, str]],
        others: Sequence[tuple[Schema, str]],
    ) -> Sequence[str]:
        """A text, of which nothing tells whether it was meant as a string where `others` are
        allowed too: those may be words, else the text is any."""
        words = [_WORDS.get("".join(types_in(node)), "") for node, _ in others]
        is_any = not self._tags.tells_strings and not all(words)
        if is_any:
            for node, path in (*strings, *others):
                self.leave_out_but(node, path, ("type",))
        terminals = [
            "" if is_any or self._says_nothing(node) else self.string(node, path, self._tags.mark)
            for node, path in strings
        ]
        text = "TEXT"
        if all(terminals):
            text = f"{rule}_T".upper()
            also = [] if self._tags.tells_strings else words
            self.rules.append(f"{text}: {' | '.join([*terminals, *also])}")
        self.rules.append(f"{rule}_text[lazy]: {text} {literal(self._tags.end)}")
        return [f"{self._opening(key, is_string=True)} {rule}_text"]

    def _says_nothing(self, node: Schema) -> bool:
        return not types_in(node) and self.choices(node) is None
