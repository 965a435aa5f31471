"""Inputs of a form, in every family's form of calls: what a grammar makes is read back as text of
that form, and all of its texts can be made."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.text.byte_grammar import accepts, follower
from tests.text.tools.families.test_held_arguments import arguments
from tests.text.tools.families.written_answers import written
from thirdeye.server.text.constraints.escaped_text import NotEscapable, escaped_lark
from thirdeye.server.text.tools.call_grammar import tool_grammar
from thirdeye.server.text.tools.definitions import ChoiceMode, ToolChoice, ToolUse
from thirdeye.server.text.tools.families.form_grammar import form_grammar
from thirdeye.server.text.tools.families.form_table import CALL_FORMS
from thirdeye.server.text.tools.form import write_call
from thirdeye.server.text.tools.text_inputs import InputForm, custom_tool

NAMED = ToolChoice(ChoiceMode.NAMED, "f")
# After the grammar that a coding agent sends: lines with their marks.
PATCH = """
start: begin change+ end
begin: "*** Begin" LF
change: ("+" | "-" | " ") /(.*)/ LF -> line
end: "*** End" LF?

%import common.LF
"""
QUOTES = r"""
start: WORD ("\"" /[^"]/ "\"" | "\\" HEX+ | "a".."c" SEP)*
WORD: /[a-z]+/
HEX: "x" /[0-9a-f]{2}/
SEP: /[\t\n]/
"""
# What they say, as the standard library has it.
SAID = {
    PATCH: re.compile(r"\*\*\* Begin\n([+\- ].*\n)+\*\*\* End\n?"),
    QUOTES: re.compile(r'[a-z]+("[^"]"|\\(x[0-9a-f]{2})+|[a-c][\t\n])*'),
}


def made(name: str, form: InputForm) -> tuple[str, list[tuple[int, str]]]:
    left_out: list[tuple[int, str]] = []
    use = ToolUse([custom_tool("f", None, form)], NAMED)
    if name == "hermes":
        return tool_grammar(use, "", left_out), left_out
    return form_grammar(use, CALL_FORMS[name], "", left_out), left_out


def takes(rules: str, text: str) -> bool:
    grammar = json.dumps({"grammars": [{"lark_grammar": rules}]})
    return accepts(grammar, text)


@pytest.mark.parametrize("name", ["llama", "harmony", "qwen_xml", "seed", "pythonic", "mistral11"])
@pytest.mark.parametrize("definition", [PATCH, QUOTES], ids=["patch", "quotes"])
def test_what_is_made_is_of_the_grammar(name: str, definition: str) -> None:
    serialized, left_out = made(name, InputForm("lark", definition))
    if left_out:
        assert name in ("qwen_xml", "seed"), "where a terminal could take the closing tag"
        return
    parameters = custom_tool("f", None, None).arguments_schema
    texts = [text for seed in range(8) if (text := written(serialized, seed)) is not None]
    assert texts
    for text in texts:
        said = json.loads(arguments(name, text, dict(parameters)))["input"]
        assert SAID[definition].fullmatch(said)


def test_a_patch_is_held_where_lines_end_before_the_tag() -> None:
    for name in ("qwen_xml", "seed", "llama", "harmony", "pythonic", "kimi", "hermes", "granite"):
        assert made(name, InputForm("lark", PATCH))[1] == []
    for name in ("glm", "deepseek32", "gemma4"):
        assert made(name, InputForm("lark", PATCH))[1] == [(0, "$")]


ALPHABET = st.text('ab"\\\t\n+-*BeginEd ', max_size=14)


@draws(15, 60)
@given(ALPHABET, st.booleans())
def test_an_escaped_text_is_taken_as_the_text_is(text: str, is_patch: bool) -> None:
    definition = PATCH if is_patch else QUOTES
    text = f"*** Begin\n{text}\n*** End" if is_patch else text
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    is_taken = takes("start: of_start\n" + escaped_lark(definition), escaped)
    assert not is_taken or SAID[definition].fullmatch(text)
    assert is_taken or not takes(definition, text)


SPACED = r"""
start: call ("," call)* -> calls
call: NAME "(" NUMBER? ")"
NAME: /[ab]+/
NUMBER: DIGIT "." DIGIT | DIGIT
DIGIT: /[0-9]/
%ignore /[ \n]+/
%ignore "\""
"""


@draws(50, 200)
@given(st.text('ab01.,() \n"', max_size=12) | st.from_regex(r'( ?a\s?"?\( ?1 ?\.?1?\) ?,?)+'))
def test_what_is_ignored_may_stand_between_texts_and_not_within(text: str) -> None:
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    assert takes("start: of_start\n" + escaped_lark(SPACED), escaped) == takes(SPACED, text)


@pytest.mark.parametrize(
    "definition",
    ['start: %json {"type": "null"}', "start: T\nT: /a/ & ~/b/", "start: <|end|>",
     'start: /(?i:a)"/', 'start[lazy]: /a"/', "%ignore <|end|>\nstart: A\nA: /a/"],
)  # fmt: skip
def test_more_than_rules_and_texts_is_not_said(definition: str) -> None:
    with pytest.raises(NotEscapable):
        escaped_lark(definition)


def test_a_regex_is_held_in_bare_forms() -> None:
    form = InputForm("regex", r'[a-c]+ "x"')
    for name in ("qwen_xml", "seed", "glm", "deepseek32", "gemma4", "pythonic"):
        serialized, left_out = made(name, form)
        assert left_out == []
        texts = [text for seed in range(6) if (text := written(serialized, seed)) is not None]
        schema = dict(custom_tool("f", None, form).arguments_schema)
        for text in texts:
            assert json.loads(arguments(name, text, schema))["input"].endswith(' "x"')
        assert texts


def test_hermes_holds_it_too() -> None:
    serialized, _ = made("hermes", InputForm("lark", PATCH))
    matcher = follower(serialized)
    good = write_call("f", json.dumps({"input": '*** Begin\n+a"\n*** End'}))
    assert matcher.validate_tokens(list(good.encode())) == len(good)
    bad = write_call("f", json.dumps({"input": "*** Begin\na"}))
    assert matcher.validate_tokens(list(bad.encode())) == bad.index('a"}')
