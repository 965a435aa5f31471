"""What a grammar of a family's form makes is read back as calls that fit the schema."""

import json

import jsonschema_rs
import pytest

from tests.text.byte_grammar import accepts
from tests.text.tools.families.written_answers import written
from thirdeye.server.text.answer_reader import make_reader
from thirdeye.server.text.reasoning.reasoning_form import HARMONY, PromptState
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolChoice, ToolUse
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.form_grammar import form_grammar
from thirdeye.server.text.tools.families.form_table import CALL_FORMS, HARMONY_CALLS

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "deep": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        "sure": {"type": "boolean"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [Tool("weather", parameters=SCHEMA), Tool("ns.now/utc")]
AUTO, REQUIRED = ToolChoice(ChoiceMode.AUTO), ToolChoice(ChoiceMode.REQUIRED)
NAMED = ToolChoice(ChoiceMode.NAMED, "weather")


def grammar(form: CallForm, choice: ToolChoice, *, is_parallel: bool = True) -> str:
    return form_grammar(ToolUse(TOOLS, choice, is_parallel), form)


def read(form: CallForm, text: str) -> tuple[str, list[tuple[str, str]]]:
    parameters = {tool.name: tool.parameters for tool in TOOLS}
    reasoning = HARMONY if form is HARMONY_CALLS else None
    reader = make_reader(
        reasoning, PromptState.UNDECIDED, parse_tool_calls=True, form=form, parameters=parameters
    )
    assert reader is not None
    content, calls = "", list[tuple[str, str]]()
    for piece in [*reader.feed(text), *reader.flush()]:
        if isinstance(piece, str):
            content += piece
        elif not hasattr(piece, "name"):
            continue
        elif piece.name is not None:
            calls.append((piece.name, ""))
        else:
            calls[-1] = calls[-1][0], calls[-1][1] + piece.arguments
    return content, calls


@pytest.mark.parametrize("name", CALL_FORMS)
@pytest.mark.parametrize("choice", [REQUIRED, NAMED], ids=["required", "named"])
def test_what_the_grammar_makes_is_read_and_fits_the_schema(name: str, choice: ToolChoice) -> None:
    form = CALL_FORMS[name]
    serialized = grammar(form, choice)
    answers = [text for seed in range(12) if (text := written(serialized, seed)) is not None]
    assert len(answers) >= 3
    for text in answers:
        content, calls = read(form, text)
        assert content.strip() == ""
        assert calls
        for called, arguments in calls:
            value = json.loads(arguments)
            if called == "weather":
                jsonschema_rs.validate(SCHEMA, value)


CALL = {
    "qwen_xml": "<tool_call>\n<function=weather>\n<parameter=city>\nP\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "glm": "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>P</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
    "deepseek32": '<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n'
    '<｜DSML｜parameter name="city" string="true">P</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    "granite": '<|tool_call|>[{"name": "weather", "arguments": {"city": "P", "days": 3}}]',
    "mistral11": '[TOOL_CALLS]weather[ARGS]{"city": "P", "days": 3}',
    "llama": '{"name": "weather", "parameters": {"city": "P", "days": 3}}',
    "pythonic": '[weather(city="P", days=3)]',
    "functionary": '<function=weather>{"city": "P", "days": 3}</function>',
    "gemma4": '<|tool_call>call:weather{city:<|"|>P<|"|>,days:3}<tool_call|>',
    "harmony": "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
    '{"city": "P", "days": 3}',
}


@pytest.mark.parametrize("name", CALL)
def test_the_forms_own_call_is_allowed_and_another_argument_is_not(name: str) -> None:
    form = CALL_FORMS[name]
    for choice in (AUTO, REQUIRED, NAMED):
        serialized = grammar(form, choice)
        assert accepts(serialized, CALL[name])
        assert not accepts(serialized, CALL[name].replace("days", "dies"))
        assert not accepts(serialized, CALL[name].replace("3", '"x"'))


@pytest.mark.parametrize("name", CALL)
def test_auto_allows_text_and_required_does_not(name: str) -> None:
    form = CALL_FORMS[name]
    text = "<|channel|>final<|message|>Hello!" if form is HARMONY_CALLS else "Hello!"
    assert accepts(grammar(form, AUTO), text)
    assert not accepts(grammar(form, REQUIRED), text)


@pytest.mark.parametrize("name", [n for n in CALL if n != "harmony"])
def test_one_call_where_one_is_asked_for(name: str) -> None:
    form, one = CALL_FORMS[name], CALL[name]
    if form.close_text:
        two = one[: -len(form.close_text)] + form.between_text + one[len(form.open_text) :]
    else:
        two = one + form.between_text + one.removeprefix(form.open_text)
    assert accepts(grammar(form, REQUIRED), two)
    assert not accepts(grammar(form, REQUIRED, is_parallel=False), two)
