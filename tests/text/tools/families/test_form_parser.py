"""Calls of every family: any cut of an answer gives the same content and calls, and their types."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.server.text.events import Piece
from thirdeye.server.text.tools.families.call_form import CallForm
from thirdeye.server.text.tools.families.form_parser import FormParser
from thirdeye.server.text.tools.families.form_table import CALL_FORMS, HARMONY_CALLS

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "deep": {"type": "object"},
        "tags": {"type": "array"},
        "unit": {"enum": ["C", "F"]},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
}
PARAMETERS = {"weather": SCHEMA, "ns.now/utc": {}}
ALL = {"city": "Paris <b>", "days": 3, "deep": {"a": [1, True, None]}, "tags": ["x"], "unit": "C"}
SEP, ONE, END = "<｜tool▁sep｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
BEGIN, CLOSE = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
J = json.dumps(ALL)


def xml(arguments: dict[str, Any], name: str, begin: str = "\n", end: str = "\n") -> str:
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in arguments.items()}
    inner = "".join(f"<parameter={k}>{begin}{v}{end}</parameter>\n" for k, v in texts.items())
    return f"<function={name}>\n{inner}</function>\n"


def pairs(arguments: dict[str, Any], name: str) -> str:
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in arguments.items()}
    inner = "".join(
        f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in texts.items()
    )
    return f"<tool_call>{name}\n{inner}</tool_call>"


def dsml(block: str) -> str:
    inner = "".join(
        f'<｜DSML｜parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">'
        f"{v if isinstance(v, str) else json.dumps(v)}</｜DSML｜parameter>\n"
        for k, v in ALL.items()
    )
    calls = f'<｜DSML｜invoke name="weather">\n{inner}</｜DSML｜invoke>\n'
    calls += '<｜DSML｜invoke name="ns.now/utc">\n</｜DSML｜invoke>\n'
    return f"<｜DSML｜{block}>\n{calls}</｜DSML｜{block}>"


# As the families' public pages show them: two calls, one with arguments of every type.
CALLS = {
    "deepseek32": dsml("function_calls"),
    "deepseek4": dsml("tool_calls"),
    "granite": f'<|tool_call|>[{{"name": "weather", "arguments": {J}}}, '
    '{"name": "ns.now/utc", "arguments": {}}]',
    "qwen_xml": f"<tool_call>\n{xml(ALL, 'weather')}</tool_call>\n"
    f"<tool_call>\n{xml({}, 'ns.now/utc')}</tool_call>",
    "seed": f"<seed:tool_call>\n{xml(ALL, 'weather', '', '')}</seed:tool_call>\n"
    f"<seed:tool_call>\n{xml({}, 'ns.now/utc')}</seed:tool_call>",
    "glm": pairs(ALL, "weather") + "\n" + "<tool_call>ns.now/utc</tool_call>",
    "mistral": f'[TOOL_CALLS] [{{"name": "weather", "arguments": {J}}}, '
    '{"name": "ns.now/utc", "arguments": {}}]',
    "mistral11": f"[TOOL_CALLS]weather[ARGS]{J}[TOOL_CALLS]ns.now/utc[ARGS]{{}}",
    "llama": f'<|python_tag|>{{"name": "weather", "parameters": {J}}}; '
    '{"name": "ns.now/utc", "parameters": {}}',
    "pythonic": '[weather(city=\'Paris <b>\', days=3, deep={"a": [1, True, None]}, tags=["x"], '
    'unit="C"), ns.now/utc()]',
    "deepseek": f"{BEGIN}{ONE}function{SEP}weather\n```json\n{J}\n```{END}\n"
    f"{ONE}function{SEP}ns.now/utc\n```json\n{{}}\n```{END}{CLOSE}",
    "deepseek31": f"{BEGIN}{ONE}weather{SEP}{J}{END}{ONE}ns.now/utc{SEP}{{}}{END}{CLOSE}",
    "gemma4": '<|tool_call>call:weather{city:<|"|>Paris <b><|"|>,days:3,deep:{a:[1,true,null]},'
    'tags:[<|"|>x<|"|>],unit:<|"|>C<|"|>}<tool_call|><|tool_call>call:ns.now/utc{}<tool_call|>',
    "kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
    f"<|tool_call_argument_begin|>{J}<|tool_call_end|><|tool_call_begin|>functions.ns.now/utc:1"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
    "functionary": f"<function=weather>{J}</function><function=ns.now/utc>{{}}</function>",
    "mistral11, Small 3.2": f"[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]{J}"
    "[TOOL_CALLS]ns.now/utc[CALL_ID]012345678[ARGS]{}",
    "llama, 4": f'<|python_start|><|python_end|>{{"name": "weather", "parameters": {J}}}'
    '{"name": "ns.now/utc", "parameters": {}}',
}
BITS = [
    "[TOOL",
    "<tool_call>",
    "<",
    "{",
    "}",
    "]",
    "</",
    "a",
    " ",
    "\n",
    '"',
    "weather",
    BEGIN,
    "é",
]


def form_of(name: str) -> CallForm:
    return CALL_FORMS[name.partition(",")[0]]


def read(name: str, text: str, places: list[int]) -> tuple[str, list[tuple[str, str]], list[Piece]]:
    parser, pieces = FormParser(form_of(name), PARAMETERS), list[Piece]()
    ends = [0, *sorted(min(p, len(text)) for p in places), len(text)]
    for a, b in pairwise(ends):
        pieces += parser.feed(text[a:b])
    pieces += parser.flush()
    assert parser.num_held == 0
    content, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        if isinstance(piece, str):
            content += piece
        elif piece.name is not None:
            assert piece.index == len(calls)
            calls.append((piece.name, ""))
        else:
            called, arguments = calls[piece.index]
            calls[piece.index] = called, arguments + piece.arguments
    return content, calls, pieces


def test_every_form_is_tried() -> None:
    assert {form_of(name).name for name in CALLS} == CALL_FORMS.keys() - {HARMONY_CALLS.name}


@draws(8, 20)
@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
def test_any_cut_of_two_calls_gives_both(name: str, data: st.DataObject) -> None:
    """With text in front, where the form allows one; none of theirs is in the content."""
    before = "" if form_of(name).only_first else data.draw(st.sampled_from(["", "See: ", "a<b "]))
    text = before + CALLS[name] + data.draw(st.sampled_from(["", "\n"]))
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=10))
    content, calls, _ = read(name, text, places)
    assert content.strip() == before.strip()
    assert [(called, json.loads(arguments)) for called, arguments in calls] == [
        ("weather", ALL),
        ("ns.now/utc", {}),
    ]


@draws(10, 40)
@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
def test_any_cut_of_any_text_says_the_same_and_loses_nothing(
    name: str, data: st.DataObject
) -> None:
    bits = [*BITS, CALLS[name], CALLS[name][:30], *form_of(name).open_text.split()]
    text = "".join(data.draw(st.lists(st.sampled_from(bits), max_size=8)))
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=10))
    content, calls, _ = read(name, text, places)
    assert (content, calls) == read(name, text, [])[:2]
    if not calls:
        assert content == text


@pytest.mark.parametrize("name", CALLS)
def test_arguments_come_as_they_are_read(name: str) -> None:
    """One call is said before the next one begins; each argument, at the latest, when it ends."""
    text = CALLS[name]
    _, _, pieces = read(name, text, [*range(len(text))])
    deltas = [p for p in pieces if not isinstance(p, str)]
    assert len(deltas) > len(ALL) + 2


def test_ids_are_the_familys_own() -> None:
    ids = [p.call_id for p in read("mistral", CALLS["mistral"], [])[2] if not isinstance(p, str)]
    assert [len(i) for i in ids if i] == [9, 9]
    assert all(i.isalnum() for i in ids if i)
    ids = [p.call_id for p in read("kimi", CALLS["kimi"], [])[2] if not isinstance(p, str)]
    assert [i for i in ids if i] == ["functions.weather:0", "functions.ns.now/utc:1"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("city", "12", "12"),
        ("city", "null", "null"),
        ("days", "12", 12),
        ("days", "twelve", "twelve"),
        ("deep", '{"a": 1}', {"a": 1}),
        ("maybe", "null", None),
        ("maybe", "12", "12"),
        ("maybe", "text", "text"),
        ("unit", "C", "C"),
        ("unknown", "true", True),
        ("days", "True", True),
        ("city", "two\nlines", "two\nlines"),
    ],
)
def test_bare_texts_have_the_type_of_the_schema(key: str, text: str, value: object) -> None:
    answer = f"<tool_call>\n{xml({key: text}, 'weather')}</tool_call>"
    _, calls, _ = read("qwen_xml", answer, [])
    assert json.loads(calls[0][1]) == {key: value}


def test_values_nested_without_end_are_read_to_the_end() -> None:
    for form, text in (
        ("pythonic", "[weather(tags=" + "[" * 3000),
        ("pythonic", "[weather(deep=" + '{"a":' * 3000),
        ("gemma4", "<|tool_call>call:weather{tags:" + "[" * 3000),
    ):
        content, calls, _ = read(form, text, [])
        assert content == ""
        assert [name for name, _ in calls] == ["weather"]
