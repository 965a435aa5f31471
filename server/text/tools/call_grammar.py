"""What an answer with tools may look like, as a grammar: the model cannot write a broken call.

    none                 no grammar: tags are plain text
    auto                 text, or text and then calls: free up to the opening tag, held from there
    required             calls and nothing else
    named                one call of one tool

A call's arguments are held to its tool's schema: to all of it if the tool is strict, else to what a
grammar can hold. With a response format beside tools an answer under `auto` is either content in
that format, or calls without text before them. Tags are text here: that they are single tokens in
some vocabularies is the engine's matter.
"""

import json
from collections.abc import Sequence
from typing import Any

from thirdeye.server.text.constraints.constraint import (
    checked_lark,
    json_schema,
    lenient_json_schema,
    serialized,
    works,
)
from thirdeye.server.text.constraints.escaped_text import NotEscapable, escaped_lark
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.tools.definitions import ChoiceMode, TextInput, Tool, ToolUse
from thirdeye.server.text.tools.form import CLOSE, OPEN, SEPARATOR, TAIL, head_of

LeftOut = list[tuple[int, str]]  # of a tool with this index, the path of a keyword


class ToolGrammarError(ConstraintError):
    """The parameters of tool `index` cannot be followed."""

    def __init__(self, index: int, error: ConstraintError) -> None:
        super().__init__(error.rule, error.path)
        self.index = index


def tool_grammar(use: ToolUse, content: str = "", left_out: LeftOut | None = None) -> str:
    """llguidance's serialized form. `content` is the response format's grammar, serialized too.
    `left_out` gets what the schemas of tools that are not strict ask and no grammar can hold: the
    tool's index, and the path in its schema. The model reads it in its prompt all the same.

    Raises `ToolGrammarError` for the first tool whose schema cannot be used, whether this answer
    may call it or not; `ConstraintError` if they are too much together.
    """
    if not use.may_call:
        return content
    left_out = [] if left_out is None else left_out
    parts = {tool.name: tool_part(i, tool, left_out) for i, tool in enumerate(use.tools)}
    names = [tool.name for tool in use.callable_tools()]
    side = [{**parts[name], "name": f"arguments_{i}"} for i, name in enumerate(names)]
    side += [{**only_part(content), "name": "content"}] if content else []
    rules = [_start(use, bool(content)), _call(names), *_RULES]
    return serialized(json.dumps({"grammars": [{"lark_grammar": "\n".join(rules)}, *side]}))


def tool_part(index: int, tool: Tool, left_out: LeftOut) -> dict[str, Any]:
    """A tool's arguments as JSON. Raises `ToolGrammarError`."""
    try:
        if tool.text_input is not None and tool.text_input.lark is not None:
            part = quoted_text(tool.text_input.lark)
            if part is not None:
                return part
            left_out.append((index, "$"))
        grammar, paths = held_schema(tool.arguments_schema, tool)
    except ConstraintError as error:
        raise ToolGrammarError(index, error) from None
    if tool.parameters.get("type", "object") != "object":
        paths = ["$.type", *paths]
    left_out += ((index, path) for path in paths)
    return only_part(grammar)


def json_paths(index: int, tool: Tool) -> list[str]:
    """The paths of what no form holds of a tool's schema. Raises `ToolGrammarError`."""
    if tool.text_input is not None and tool.text_input.lark is not None:
        return []
    left_out: LeftOut = []
    tool_part(index, tool, left_out)
    return [path for _, path in left_out]


def held_schema(schema: object, tool: Tool) -> tuple[str, list[str]]:
    """The grammar of one of a tool's schemas: of all of it if the tool is strict, else of what can
    be held, with the paths of the rest. Raises `ConstraintError`."""
    return (json_schema(schema), []) if tool.strict else lenient_json_schema(schema)


def quoted_text(definition: str) -> dict[str, Any] | None:
    """The arguments `{"input": "..."}` with a text of a grammar in the quotes; None where that
    cannot be said. Raises `ConstraintError` for what is no grammar."""
    begin = json.dumps({TextInput.NAME: ""})[:-2]
    rules = quoted_string(checked_lark(definition), begin, '"}')
    return None if rules is None else {"lark_grammar": rules}


def quoted_string(grammar: str, begin: str = '"', end: str = '"') -> str | None:
    """The rules of a text of a grammar as JSON has it; None where that cannot be said."""
    try:
        rules = f"start: {json.dumps(begin)} of_start {json.dumps(end)}\n{escaped_lark(grammar)}"
    except NotEscapable:
        return None
    return rules if works(rules) else None


def only_part(grammar: str) -> dict[str, Any]:
    """The one grammar of a serialized form."""
    (part,) = json.loads(grammar)["grammars"]
    return dict(part)


def _start(use: ToolUse, has_content: bool) -> str:
    """The rule `start`: what stands in front of the first call, or in the place of all calls."""
    more = f"({json.dumps(SEPARATOR)} open call){use.repetition}" if use.repetition else ""
    calls = f"call {more}"
    if use.choice.mode is not ChoiceMode.AUTO:
        return f"start: open {calls}"
    if has_content:
        return f"start: @content | open {calls}"
    return f"start: TEXT | text_open {calls}"


def _call(names: Sequence[str]) -> str:
    """A call, from behind its opening tag on."""
    heads = (f"{json.dumps(head_of(name))} @arguments_{i}" for i, name in enumerate(names))
    return f"call: ({' | '.join(heads)}) {json.dumps(TAIL)} {json.dumps(CLOSE)}"


_RULES = (
    f"open: {json.dumps(OPEN)}",
    # Lazy: the text before a tag ends with the first one, and cannot run over it.
    f"text_open[lazy]: TEXT {json.dumps(OPEN)}",
    r"TEXT: /(.|\n)*/",
)
