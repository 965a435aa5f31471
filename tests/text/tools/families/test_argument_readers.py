"""Whatever a model writes as arguments comes out as JSON that can be sent, or as text in it."""

import json
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thirdeye.server.text.tools.families.argument_readers import make_argument_reader
from thirdeye.server.text.tools.families.call_form import Arguments

ANY: dict[str, Any] = {"type": "object", "properties": {}}
LISTS = {"type": "object", "properties": {"n": {"type": ["string", "array"]}}}


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def read(kind: Arguments, text: str, parameters: dict[str, Any] = ANY) -> Any:
    reader = make_argument_reader(kind, parameters)
    said = "".join(reader.feed(char) for char in text)
    assert reader.is_done
    said.encode()
    return json.loads(said, parse_constant=refuse)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "[1, NaN]"])
@pytest.mark.parametrize("parameters", [ANY, LISTS])
def test_what_is_no_number_in_json_is_text(word: str, parameters: dict[str, Any]) -> None:
    """It came out as itself, which no JSON reader takes, and was lost in Messages."""
    xml = f"<parameter=n>\n{word}\n</parameter></function>"
    assert read(Arguments.XML, xml, parameters) == {"n": word}
    pairs = f"arg_key>n</arg_key><arg_value>{word}</arg_value></tool_call>"
    assert read(Arguments.PAIRS, pairs, parameters) == {"n": word}


def test_what_is_no_number_in_nested_forms() -> None:
    assert read(Arguments.PYTHON, "a=NaN, b=[1, -Infinity])") == {"a": "NaN", "b": [1, "-Infinity"]}
    assert read(Arguments.GEMMA, "a:NaN,b:[1,Infinity]}") == {"a": "NaN", "b": [1, "Infinity"]}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ud83d"', "\ufffd"),
        (r"'\x41\u00e9'", "Aé"),
        ('"\ud83d"', "\ufffd"),
    ],
)
def test_half_a_character_can_be_sent(written: str, value: str) -> None:
    """It ended the request as a bug."""
    assert read(Arguments.PYTHON, f"a={written})") == {"a": value}


def test_keys_of_a_dict_are_strings() -> None:
    assert read(Arguments.PYTHON, "a={1: 2, None: {'x': True}, 'b': 3})") == {
        "a": {"1": 2, "None": {"x": True}, "b": 3}
    }


@pytest.mark.parametrize(
    ("kind", "text"), [(Arguments.PYTHON, "a=%s,)"), (Arguments.GEMMA, "a:%s,}")]
)
def test_brackets_without_end_are_read(kind: Arguments, text: str) -> None:
    reader = make_argument_reader(kind, ANY)
    for char in text % ("[" * 3000):
        reader.feed(char)


@given(st.text(st.sampled_from("[]{}()'\"\\:,=aNI0.-\n\ud83d"), max_size=60))
def test_no_text_ends_a_reader_as_a_bug(text: str) -> None:
    for kind in Arguments:
        reader = make_argument_reader(kind, LISTS)
        said = ""
        for char in text:
            if reader.is_done:
                break
            said += reader.feed(char)
        if reader.is_done and kind is not Arguments.JSON:
            json.loads(said, parse_constant=refuse)
