"""What an answer with tools may look like in a family's own form: `call_grammar.py` for the table.

Arguments that are JSON in the form are held to their schema as a whole. In the others each property
is: a bare text where it is a string, one of the choices of an enum, JSON (or what the form has for
it) elsewhere. Properties come in the schema's order, those that are required always.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from thirdeye.server.text.constraints.constraint import serialized
from thirdeye.server.text.constraints.trials.refusal import ConstraintError
from thirdeye.server.text.tools.call_grammar import (
    LeftOut,
    ToolGrammarError,
    json_paths,
    only_part,
    tool_part,
)
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolUse
from thirdeye.server.text.tools.families.argument_rules import literal
from thirdeye.server.text.tools.families.bare_arguments import BareRules
from thirdeye.server.text.tools.families.call_form import Arguments, CallForm
from thirdeye.server.text.tools.families.form_table import HARMONY_CALLS
from thirdeye.server.text.tools.families.nested_arguments import RULES, NestedRules

Side = list[dict[str, Any]]  # grammars that the rules refer to by name
_TEXT = r"TEXT: /(.|\n)*/"
_HARMONY_START = '("<|start|>assistant")?'


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
    call = f"call: ({' | '.join(heads)}) {literal(form.tail_text)}"
    lines = [*_start(use, form, bool(content)), call, *rules, *RULES.get(form.arguments, ())]
    grammar = {"lark_grammar": "\n".join([*lines, _TEXT])}
    return serialized(json.dumps({"grammars": [grammar, *side]}))


def _head(form: CallForm, name: str) -> str:
    before, mark, after = form.head_text.replace("NAME", name).partition("INDEX")
    return f"{literal(before)} /[0-9]{{1,2}}/ {literal(after)}" if mark else literal(before)


def _start(use: ToolUse, form: CallForm, has_content: bool) -> Iterator[str]:
    """The rule `start`: what stands in front of the first call, or in the place of all calls."""
    is_auto = use.choice.mode is ChoiceMode.AUTO
    if form is HARMONY_CALLS:
        final = "@content" if has_content else "TEXT"
        answer = f'| {_HARMONY_START} "<|channel|>final<|message|>" {final}' if is_auto else ""
        yield f"start: {_HARMONY_START} call {answer}"
        return
    more = f"({literal(form.between_text)} call){use.repetition}" if use.repetition else ""
    calls = f"call {more} {literal(form.close_text)}"
    if not is_auto:
        yield f"start: {literal(form.open_text)} {calls}"
    elif has_content:
        yield f"start: @content | {literal(form.open_text)} {calls}"
    elif form.not_text:
        yield f"start: PLAIN | {literal(form.open_text)} {calls}"
        yield rf"PLAIN: /([^\{form.not_text} \n](.|\n)*)?/"
    else:
        yield f"start: TEXT | text_open {calls}"
        # Lazy: the text before a tag ends with the first one, and cannot run over it.
        yield f"text_open[lazy]: TEXT {literal(form.open_text)}"


def _arguments(
    index: int, tool: Tool, form: CallForm, left_out: LeftOut
) -> tuple[Sequence[str], Side]:
    """The rule `arguments_<index>`, and what it refers to. Raises `ToolGrammarError`."""
    name = f"arguments_{index}"
    if form.arguments is Arguments.JSON:
        part = {**tool_part(index, tool, left_out), "name": f"json_{index}"}
        return [f"{name}: @json_{index}"], [part]
    paths = json_paths(index, tool)
    try:
        kind = NestedRules if form.arguments in (Arguments.GEMMA, Arguments.PYTHON) else BareRules
        found = kind(name, tool, form.arguments)
    except ConstraintError as error:
        raise ToolGrammarError(index, error) from None
    left_out += [(index, path) for path in dict.fromkeys([*paths, *found.left_out])]
    return found.rules, found.side
