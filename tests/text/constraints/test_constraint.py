"""Grammars from what callers ask: each accepts exactly what its oracle does, over single bytes."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llguidance import LLMatcher

from tests.draws import draws
from tests.text.byte_grammar import BYTES, accepts
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.constraints.schema_keywords import MAX_EXACT
from thirdeye.server.text.constraints.trials.refusal import ConstraintError

DELETE = "\x7f"


PATTERNS = ["ab*", "(ab|ba)+", "[ab]{2,3}", "a?b?", "(a|b)*a", "^ab$", "a.b", "(a|ab)(b|c)?", ""]


@pytest.mark.parametrize("pattern", PATTERNS)
@draws(15, 60)
@given(text=st.text("ab\nc", max_size=6))
def test_a_regex_accepts_what_fullmatch_does(pattern: str, text: str) -> None:
    assert accepts(grammar.regex(pattern), text) == bool(re.fullmatch(pattern, text))


@draws(15, 60)
@given(
    options=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5),
    other=st.text(max_size=8),
)
def test_a_choice_accepts_its_options_and_nothing_else(options: list[str], other: str) -> None:
    """Whatever characters they hold: quotes, backslashes, regex syntax, emoji."""
    made = grammar.choice(options)
    assert all(accepts(made, option) for option in options)
    assert accepts(made, other) == (other in options)


def test_a_lark_grammar_is_followed() -> None:
    made = grammar.lark('start: "<" inner ">"\ninner: /[a-c]+/ | start')
    assert accepts(made, "<<ab>>")
    assert not accepts(made, "<<ab>")


@draws(15, 60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-MAX_EXACT, MAX_EXACT) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
@example({DELETE: DELETE})
def test_json_object_accepts_every_object(value: object) -> None:
    """Written with U+007F as an escape: see the next test."""
    for indent in (None, 2):
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        escaped = text.replace(DELETE, r"\u007f")
        assert accepts(grammar.json_object(), escaped) == isinstance(value, dict)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_control_characters_are_written_as_escapes(code: int) -> None:
    """JSON wants it of the first 32; llguidance of DELETE too, which JSON would take as it is.
    Nothing is lost: each character can still be said."""
    made = grammar.json_object()
    assert not accepts(made, f'{{"{chr(code)}": "{chr(code)}"}}')
    assert accepts(made, rf'{{"\u{code:04x}": "\u{code:04x}"}}')


def test_blanks_are_bounded() -> None:
    """A weak model cannot go on in blanks for ever: after a few it must say something."""
    made = grammar.json_schema({"type": "object", "properties": {"a": {}}, "required": ["a"]})
    assert accepts(made, '{"a": 1}')
    assert accepts(made, '{\n  "a": [\n    1\n  ]\n}')
    assert not accepts(made, '{"a":  1}')
    assert not accepts(made, '{"a":' + "\n" + " " * 40 + "1}")
    assert not accepts(made, '{"a":\n\n1}')


BAD_SCHEMAS: list[tuple[object, str, str]] = [
    (3, "$", "must be a schema: an object, true or false."),
    (False, "$", "cannot be followed"),
    ({"type": "text"}, "$.type", "must be one of string"),
    ({"type": ["string", 3]}, "$.type", "must be one of string"),
    ({"type": []}, "$.type", "must be one of string"),
    ({"not": {}}, "$.not", "is not a keyword that can be followed."),
    ({"uniqueItems": True}, "$.uniqueItems", "is not a keyword"),
    ({"properties": {"a": {"if": {}, "then": {}}}}, "$.properties.a.if", "is not a keyword"),
    ({"properties": {"a b": {"not": 1}}}, "$.properties['a b'].not", "is not a keyword"),
    ({"x-guidance": {"lenient": True}}, "$.x-guidance", "is not a keyword"),
    ({"typ": "string"}, "$.typ", "is not a keyword"),
    ({"properties": []}, "$.properties", "must be an object."),
    ({"properties": {"a": 1}}, "$.properties.a", "must be a schema"),
    ({"required": "a"}, "$.required", "must be a list of property names."),
    ({"enum": []}, "$.enum", "must be a list of at least one value."),
    ({"anyOf": []}, "$.anyOf", "must be a list of at least one schema."),
    ({"allOf": [{}, {"minimum": "1"}]}, "$.allOf[1].minimum", "must be a number."),
    ({"minLength": -1}, "$.minLength", "must be a whole number, 0 or more."),
    ({"multipleOf": 0}, "$.multipleOf", "must be a number greater than 0."),
    ({"format": 3}, "$.format", "must be one of date-time"),
    ({"pattern": "("}, "$.pattern", "is no regular expression"),
    ({"items": {"pattern": "(?=a)"}}, "$.items.pattern", "must have no look-around"),
    ({"pattern": "a" * 5000}, "$.pattern", "must be at most 4096 characters long, got 5000."),
    ({"$ref": "http://example.com/s"}, "$.$ref", "must begin with '#'"),
    ({"$ref": "file:///etc/passwd"}, "$.$ref", "must begin with '#'"),
    ({"$ref": "#/$defs/a"}, "$.$ref", "points to nothing in the schema."),
    ({"$ref": "#"}, "$", "cannot be followed"),
    (
        {"items": {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]}},
        "$.items.oneOf",
        "has branches that one value may satisfy together",
    ),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "$.minimum", "contradicts"),
]


@pytest.mark.parametrize(("schema", "path", "rule"), BAD_SCHEMAS)
def test_a_bad_schema_says_where(schema: object, path: str, rule: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        grammar.json_schema(schema)
    assert caught.value.path == path
    assert caught.value.rule.startswith(rule)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "T", "default": 1},
        {"x-order": 3, "description": "d", "examples": [1], "deprecated": True},
        {"properties": {"not": {"type": "string"}, "$ref": {"type": "null"}}},
        {"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"},
        {"properties": {"next": {"$ref": "#"}}},
        {"enum": [{"not": 1}, None, 2.5]},
    ],
)
def test_annotations_names_and_values_are_no_keywords(schema: object) -> None:
    grammar.json_schema(schema)


def test_sizes_are_bounded() -> None:
    with pytest.raises(ConstraintError, match="at most 65536 bytes long"):
        grammar.json_schema({"description": "x" * 70_000})
    with pytest.raises(ConstraintError, match="at most 4096 bytes long"):
        grammar.regex("a" * 4097)
    with pytest.raises(ConstraintError, match="at most 65536 bytes long"):
        grammar.lark("start: " + "a" * 70_000)
    with pytest.raises(ConstraintError, match="at most 65536 bytes long"):
        grammar.choice(["x" * 70_000])


HOSTILE = {
    "huge regex": lambda: grammar.regex("(.*a){400}"),
    "nested repeats": lambda: grammar.regex("(a{1,1000}){1,1000}b"),
    "alternatives": lambda: grammar.regex("(a|aa)+$"),
    "classes": lambda: grammar.regex(r"(\p{L}{1,500}x){1,500}"),
    "back reference": lambda: grammar.regex(r"(a)\1"),
    "look-ahead": lambda: grammar.regex("(?=a)a"),
    "choices": lambda: grammar.choice([f"option {i}" for i in range(4000)]),
    "deep schema": lambda: grammar.json_schema(nested(60)),
    "large enum": lambda: grammar.json_schema({"enum": [f"v{i}" for i in range(5000)]}),
    "many properties": lambda: grammar.json_schema(
        {"properties": {f"p{i}": {"type": "null"} for i in range(1500)}}
    ),
    "many items": lambda: grammar.json_schema({"type": "array", "minItems": 10**6}),
    "long string": lambda: grammar.json_schema({"type": "string", "minLength": 10**6}),
    "allOf of anyOf": lambda: grammar.json_schema(
        {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": -i}]} for i in range(24)]}
    ),
    "pattern": lambda: grammar.json_schema(
        {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}
    ),
    "ambiguous": lambda: grammar.lark('start: s\ns: s s | "a" | ""'),
    "parentheses": lambda: grammar.lark("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    "intersection": lambda: grammar.lark("start: A\nA: /.*a.{30}/ & /.*b.{30}/ & /.*c.{30}/"),
    "another form": lambda: grammar.lark('{"grammars": [{"json_schema": {}}]}'),
    "no text": lambda: grammar.lark(""),
}


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_compiles_or_is_refused(name: str) -> None:
    """No crash, no hang (the suite's time limit would show one), no other exception."""
    try:
        made = HOSTILE[name]()
    except ConstraintError:
        return
    matcher = LLMatcher(BYTES, made, log_level=0)
    assert matcher.compute_bitmask()
    assert not matcher.is_error()
