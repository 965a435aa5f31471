"""What an answer with tools may look like in a family's own form: `call_grammar.py` for the table.

Arguments that are JSON in the form are held to their schema as a whole. In the others each property
is: a bare text where it is a string, one of the choices of an enum, JSON (or what the form has for
it) elsewhere. Properties come in the schema's order, those that are required always.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thirdeye.server.text.constraints.constraint import ConstraintError, serialized
from thirdeye.server.text.tools.call_grammar import (
    LeftOut,
    ToolGrammarError,
    held_schema,
    only_part,
    tool_part,
)
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolUse
from thirdeye.server.text.tools.families.call_form import Arguments, CallForm
from thirdeye.server.text.tools.families.deepseek_forms import DSML
from thirdeye.server.text.tools.families.form_table import HARMONY_CALLS
from thirdeye.server.text.tools.families.typed_values import Schema, types_of

Side = list[dict[str, Any]]  # grammars that the rules refer to by name
_TEXT = r"TEXT: /(.|\n)*/"
_HARMONY_START = '("<|start|>assistant")?'
_NESTED = {
    Arguments.GEMMA: (
        r'string[lazy]: "<|\"|>" TEXT "<|\"|>"',
        'value: string | NUMBER | "true" | "false" | "null" | list | object',
        'list: "[" (value ("," value)*)? "]"',
        'object: "{" (KEY ":" value ("," KEY ":" value)*)? "}"',
        "NUMBER: /-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,16})?/",
        "KEY: /[a-zA-Z0-9_-]{1,64}/",
    ),
    Arguments.PYTHON: (
        r'string: /"([^"\\\n]|\\["\\n])*"/',
        'value: string | NUMBER | "True" | "False" | "None" | list | object',
        'list: "[" (value (", " value)*)? "]"',
        'object: "{" (string ": " value (", " string ": " value)*)? "}"',
        "NUMBER: /-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,16})?/",
        "KEY: /[a-zA-Z_][a-zA-Z0-9_]{0,63}/",
    ),
}
_TAGS = {  # in front of a value, behind it, and behind all of them
    Arguments.XML: ("<parameter=KEY>\n", "\n</parameter>\n", "</function>"),
    Arguments.PAIRS: ("<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>\n", "</tool_call>"),
    Arguments.DSML: (
        f'<{DSML}parameter name="KEY" string="KIND">',
        f"</{DSML}parameter>\n",
        f"</{DSML}invoke>",
    ),
}
MAX_DEPTH = 4  # of schemas that are followed; values in them are of any shape
_COMMAS = {Arguments.GEMMA: '","', Arguments.PYTHON: '", "'}
_SCALARS = {
    Arguments.GEMMA: {"boolean": '"true" | "false"', "null": '"null"'},
    Arguments.PYTHON: {"boolean": '"True" | "False"', "null": '"None"'},
}
_KINDS = {
    "string": "string",
    "number": "NUMBER",
    "integer": "/-?(0|[1-9][0-9]{0,15})/",
    "array": "list",
    "object": "object",
}


def form_grammar(
    use: ToolUse, form: CallForm, content: str = "", left_out: LeftOut | None = None
) -> str:
    """llguidance's serialized form; see `tool_grammar`."""
    if not use.may_call:
        return content
    left_out = [] if left_out is None else left_out
    callable_names = {tool.name for tool in use.callable_tools()}
    heads: list[str] = []
    rules: list[str] = []
    side: Side = []
    for i, tool in enumerate(use.tools):
        found, own = _arguments(i, tool, form, left_out)
        if tool.name in callable_names:
            heads.append(f"({_head(form, tool.name)} arguments_{i})")
            rules += found
            side += own
    side += [{**only_part(content), "name": "content"}] if content else []
    call = f"call: ({' | '.join(heads)}) {_literal(form.tail_text)}"
    lines = [*_start(use, form, bool(content)), call, *rules, *_NESTED.get(form.arguments, ())]
    grammar = {"lark_grammar": "\n".join([*lines, _TEXT])}
    return serialized(json.dumps({"grammars": [grammar, *side]}))


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _head(form: CallForm, name: str) -> str:
    before, mark, after = form.head_text.replace("NAME", name).partition("INDEX")
    return f"{_literal(before)} /[0-9]{{1,2}}/ {_literal(after)}" if mark else _literal(before)


def _start(use: ToolUse, form: CallForm, has_content: bool) -> Iterator[str]:
    """The rule `start`: what stands in front of the first call, or in the place of all calls."""
    is_auto = use.choice.mode is ChoiceMode.AUTO
    if form is HARMONY_CALLS:
        final = "@content" if has_content else "TEXT"
        answer = f'| {_HARMONY_START} "<|channel|>final<|message|>" {final}' if is_auto else ""
        yield f"start: {_HARMONY_START} call {answer}"
        return
    more = f"({_literal(form.between_text)} call){use.repetition}" if use.repetition else ""
    calls = f"call {more} {_literal(form.close_text)}"
    if not is_auto:
        yield f"start: {_literal(form.open_text)} {calls}"
    elif has_content:
        yield f"start: @content | {_literal(form.open_text)} {calls}"
    elif form.not_text:
        yield f"start: PLAIN | {_literal(form.open_text)} {calls}"
        yield rf"PLAIN: /([^\{form.not_text} \n](.|\n)*)?/"
    else:
        yield f"start: TEXT | text_open {calls}"
        # Lazy: the text before a tag ends with the first one, and cannot run over it.
        yield f"text_open[lazy]: TEXT {_literal(form.open_text)}"


def _arguments(index: int, tool: Tool, form: CallForm, left_out: LeftOut) -> tuple[list[str], Side]:
    """The rule `arguments_<index>`, and what it refers to. Raises `ToolGrammarError`."""
    name = f"arguments_{index}"
    whole = {**tool_part(index, tool, left_out), "name": f"json_{index}"}
    if form.arguments is Arguments.JSON:
        return [f"{name}: @json_{index}"], [whole]
    try:
        if form.arguments in _NESTED:
            return [*_nested(name, tool.arguments_schema, form.arguments)], []
        side: Side = []
        return [*_bare(name, tool, form, side)], side
    except ConstraintError as error:
        raise ToolGrammarError(index, error) from None


def _properties(schema: Schema) -> dict[str, Schema]:
    found = schema.get("properties")
    if not isinstance(found, Mapping):
        return {}
    return {key: s if isinstance(s, Mapping) else {} for key, s in found.items()}


def _bare(name: str, tool: Tool, form: CallForm, side: Side) -> Iterator[str]:
    """Texts between tags: XML's and pairs'."""
    schema = tool.arguments_schema
    begin, end, last = _TAGS[form.arguments]
    required = set(schema.get("required") or ())
    members: list[str] = []
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    for j, (key, inner) in enumerate(_properties(schema).items()):
        rule = f"{name}_{j}"
        members.append(rule if key in required else f"{rule}?")
        is_text = "string" in types_of(inner) or not types_of(inner)
        kind = "true" if is_text else "false"
        opening = _literal(begin.replace("KEY", key).replace("KIND", kind))
        if is_text:
            choices = inner.get("enum")
            if isinstance(choices, list) and all(isinstance(c, str) for c in choices):
                yield f"{rule}: {opening} ({' | '.join(map(_literal, choices))}) {_literal(end)}"
            else:
                yield f"{rule}: {opening} {rule}_text"
                yield f"{rule}_text[lazy]: TEXT {_literal(end)}"
        else:
            held, _ = held_schema(shared | dict(inner), tool)
            side.append({**only_part(held), "name": f"{rule}_json"})
            yield f"{rule}: {opening} @{rule}_json {_literal(end)}"
    if not members:
        opened, closed = begin.replace("KIND", "true").split("KEY")
        members = [f"{name}_any*"]
        key = f"{_literal(opened)} /[a-zA-Z0-9_-]{{1,64}}/ {_literal(closed)}"
        yield f"{name}_any: {key} {name}_text"
        yield f"{name}_text[lazy]: TEXT {_literal(end)}"
    yield f"{name}: {' '.join(members)} {_literal(last)}"


def _nested(name: str, schema: Schema, kind: Arguments) -> Iterator[str]:
    """Arguments with commas between them: Gemma's and Python's."""
    colon, last = (":", "}") if kind is Arguments.GEMMA else ("=", ")")
    properties = [*_properties(schema).items()]
    if properties:
        keys = [f"{key}{colon}" for key, _ in properties]
        yield from _members(name, schema, kind, keys, 0)
    else:
        member = f"KEY {_literal(colon)} value"
        yield f"{name}_members: ({member} ({_COMMAS[kind]} {member})*)?"
    yield f"{name}: {name}_members {_literal(last)}"


def _members(
    name: str, schema: Schema, kind: Arguments, keys: Sequence[str], depth: int
) -> Iterator[str]:
    """The rule `<name>_members`: properties in order, commas between those that are there."""
    required = set(schema.get("required") or ())
    properties = [*_properties(schema).items()]
    yield f"{name}_members: {name}_first_0"
    for j, (key, inner) in enumerate(properties):
        yield from _value(f"{name}_{j}", inner, kind, depth)
        member = f"{_literal(keys[j])} {name}_{j} {name}_rest_{j + 1}"
        for what, comma in (("first", ""), ("rest", _COMMAS[kind])):
            without = "" if key in required else f" | {name}_{what}_{j + 1}"
            yield f"{name}_{what}_{j}: {comma} {member}{without}"
    yield f'{name}_first_{len(properties)}: ""'
    yield f'{name}_rest_{len(properties)}: ""'


def _value(name: str, schema: Schema, kind: Arguments, depth: int) -> Iterator[str]:
    """The rule `name`: a value of the schema, as far as types, choices, items and members go."""
    choices = schema.get("enum")
    quote = '<|"|>' if kind is Arguments.GEMMA else '"'
    if isinstance(choices, list) and all(isinstance(c, str) for c in choices):
        yield f"{name}: {' | '.join(_literal(f'{quote}{choice}{quote}') for choice in choices)}"
    elif schema.get("type") == "array" and depth < MAX_DEPTH:
        least, most = schema.get("minItems") or 0, schema.get("maxItems")
        items = schema.get("items")
        yield from _value(
            f"{name}_item", items if isinstance(items, Mapping) else {}, kind, depth + 1
        )
        more = "*" if most is None else f"{{{max(least - 1, 0)},{max(most - 1, 0)}}}"
        inner = f"{name}_item ({_COMMAS[kind]} {name}_item){more}" if most != 0 else '""'
        yield f'{name}: "[" {inner if least else f"({inner})?"} "]"'
    elif schema.get("type") == "object" and _properties(schema) and depth < MAX_DEPTH:
        keys = [f"{k}:" if kind is Arguments.GEMMA else f'"{k}": ' for k in _properties(schema)]
        yield from _members(name, schema, kind, keys, depth + 1)
        yield f'{name}: "{{" {name}_members "}}"'
    else:
        rules = _KINDS | _SCALARS[kind]
        found = [rules[t] for t in sorted(types_of(schema)) if t in rules]
        yield f"{name}: {' | '.join(found) or 'value'}"
