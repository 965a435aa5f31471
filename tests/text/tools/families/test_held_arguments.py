"""What a grammar of a family's form holds of a schema, and what it names: the first always
validates, and of the second a strict tool is refused."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.draws import also_at_night, count, draws, is_night
from tests.text.tools.families.written_answers import written
from thirdeye.server.text.answer_reader import make_reader
from thirdeye.server.text.reasoning.reasoning_form import HARMONY, PromptState
from thirdeye.server.text.tools.call_grammar import ToolGrammarError
from thirdeye.server.text.tools.definitions import ChoiceMode, Tool, ToolChoice, ToolUse
from thirdeye.server.text.tools.families.form_grammar import form_grammar
from thirdeye.server.text.tools.families.form_table import CALL_FORMS, HARMONY_CALLS

NAMED = ToolChoice(ChoiceMode.NAMED, "f")
FORMS = ("qwen_xml", "glm", "deepseek32", "gemma4", "pythonic", "llama")


def grammar(name: str, tool: Tool) -> tuple[str, list[str]]:
    left_out: list[tuple[int, str]] = []
    made = form_grammar(ToolUse([tool], NAMED), CALL_FORMS[name], "", left_out)
    return made, [path for _, path in left_out]


def arguments(name: str, text: str, schema: dict[str, Any]) -> str:
    form = CALL_FORMS[name]
    reader = make_reader(
        HARMONY if form is HARMONY_CALLS else None,
        PromptState.UNDECIDED,
        parse_tool_calls=True,
        form=form,
        parameters={"f": schema},
    )
    assert reader is not None
    pieces = [*reader.feed(text), *reader.flush()]
    return "".join(getattr(piece, "arguments", "") for piece in pieces)


def check(name: str, schema: dict[str, Any], seeds: range) -> tuple[list[str], int]:
    """What is not held, and how many answers were whole; each validates."""
    made, left_out = grammar(name, Tool("f", parameters=schema))
    if left_out:
        with pytest.raises(ToolGrammarError) as refused:
            grammar(name, Tool("f", parameters=schema, strict=True))
        assert left_out[0].startswith(refused.value.path), (left_out, refused.value.path)
        return left_out, 0
    grammar(name, Tool("f", parameters=schema, strict=True))
    answers = [text for seed in seeds if (text := written(made, seed)) is not None]
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for text in answers:
        value = json.loads(arguments(name, text, schema))
        assert validator.is_valid(value), (text, value)
    return left_out, len(answers)


STRINGS: list[dict[str, Any]] = [
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "string", "pattern": "b|^a"},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "maxLength": 2, "pattern": "a"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email"},
    {"anyOf": [{"type": "string", "pattern": "^a+$"}, {"type": "null"}]},
    {"type": ["string", "boolean"], "maxLength": 3},
    {"const": "a b"},
    {"enum": ["a", 1, None, True, "1", "null", [2], {"a": "b"}]},
    {"$ref": "#/$defs/short"},
    {"anyOf": [{"type": "boolean"}, {"enum": ["a"]}]},
    {"allOf": [{"$ref": "#/$defs/short"}], "description": "short"},
]
NESTED: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 3, "maximum": 7},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 5}, "minItems": 2},
    {"type": "array", "items": {"type": "string", "pattern": "^a"}, "maxItems": 2},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}, "required": ["a"],
     "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer", "minimum": 10}},
    {"anyOf": [{"type": "integer", "minimum": 9}, {"type": "array", "items": {"type": "null"}}]},
    {"$ref": "#/$defs/pair"},
    {"type": "array", "items": {"$ref": "#/$defs/pair"}, "minItems": 1, "maxItems": 1},
]  # fmt: skip
DEFS = {
    "short": {"type": "string", "minLength": 1, "maxLength": 2},
    "pair": {"type": "object", "properties": {"a": {"$ref": "#/$defs/short"}}, "required": ["a"]},
}


def asked() -> list[tuple[str, dict[str, Any]]]:
    """Each form with each schema at night; at a push each schema in every second form, and what is
    nested, which most forms write as JSON, in every third."""
    ways = [(inner, 2) for inner in STRINGS] + [(inner, 3) for inner in NESTED]
    return [
        (name, inner)
        for turn, (inner, step) in enumerate(ways)
        for place, name in enumerate(FORMS)
        if is_night() or (turn + place) % step == 0
    ]


@also_at_night
@pytest.mark.parametrize(("name", "inner"), asked(), ids=json.dumps)
def test_what_is_asked_is_held(name: str, inner: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"x": inner}, "required": ["x"], "$defs": DEFS}
    left_out, num_whole = check(name, schema, range(count(3, 20)))
    assert left_out == []
    assert num_whole > 0 or inner.get("format") == "email", "which seldom ends by chance"


NOT_HELD: list[tuple[str, dict[str, Any], str]] = [
    ("qwen_xml", {"type": "string", "format": "ipv6"}, "$.properties.x.format"),
    ("qwen_xml", {"type": ["string", "integer"], "minimum": 3}, "$.properties.x.minimum"),
    ("qwen_xml", {"minLength": 3}, "$.properties.x.minLength"),
    ("gemma4", {"type": "array", "prefixItems": [{}]}, "$.properties.x.prefixItems"),
    ("gemma4", {"type": "object", "minProperties": 1}, "$.properties.x.minProperties"),
    ("gemma4", {"type": "string", "format": "duration"}, "$.properties.x.format"),
    ("glm", {"enum": ["a</arg_value>", "b"]}, "$.properties.x.enum"),
]


@pytest.mark.parametrize(("name", "inner", "path"), NOT_HELD, ids=str)
def test_what_a_form_cannot_hold_is_named(name: str, inner: dict[str, Any], path: str) -> None:
    schema = {"type": "object", "properties": {"x": inner}}
    _, left_out = grammar(name, Tool("f", parameters=schema))
    assert left_out == [path]
    with pytest.raises(ToolGrammarError, match="cannot be held in the form") as refused:
        grammar(name, Tool("f", parameters=schema, strict=True))
    assert refused.value.path == path


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    small = st.integers(0, 3)
    scalars = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({}),
        st.builds(lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, small, small),
        st.builds(
            lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, small, small
        ),
        st.builds(
            lambda p: {"type": "string", "pattern": p}, st.sampled_from(["^a", "b$", "[a-c]"])
        ),
        st.builds(
            lambda v: {"enum": v}, st.lists(st.sampled_from(["a", "1", 1, None]), min_size=1)
        ),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
            st.builds(lambda a, n: {"type": "array", "items": a, "maxItems": n}, inner, small),
            st.builds(
                lambda a, b, r: {"type": "object", "properties": {"a": a, "b": b}, "required": r},
                inner,
                inner,
                st.sampled_from([[], ["a"], ["b", "c"]]),
            ),
        ),
        max_leaves=4,
    )


@pytest.mark.parametrize("name", ["qwen_xml", "deepseek32", "gemma4", "pythonic", "hermes"])
@draws(8, 60, suppress_health_check=[HealthCheck.too_slow])
@given(inner=schemas(), is_required=st.booleans(), seed=st.integers(0, 1000))
def test_any_schema_is_held_or_named(
    name: str, inner: dict[str, Any], is_required: bool, seed: int
) -> None:
    required = ["x"] if is_required else []
    schema = {"type": "object", "properties": {"x": inner}, "required": required}
    check("llama" if name == "hermes" else name, schema, range(seed, seed + 2))
