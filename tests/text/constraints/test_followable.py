"""What a schema asks is held in other words, or left out by name where it need not be strict."""

import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests.text.byte_grammar import accepts as takes
from tests.text.byte_grammar import follower
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.constraints.exclusive_branches import exclude_each_other
from thirdeye.server.text.constraints.followable import followable
from thirdeye.server.text.constraints.trials.refusal import ConstraintError


@pytest.mark.parametrize(
    "keyword",
    [
        {"uniqueItems": False},
        {"contains": True, "minContains": 0},
        {"minContains": 0, "contains": {"type": "null"}},
        {"minContains": 0},
        {"dependentRequired": {}},
        {"dependentSchemas": {}},
        {"unevaluatedProperties": True},
        {"not": False},
        {"if": {"type": "null"}},
        {"then": False},
        {"nullable": False},
        {"format": "uint32"},
        {"format": "json-pointer"},
        {"propertyNames": {"type": "string", "description": "any"}},
    ],
    ids=str,
)
def test_what_asks_for_nothing_is_no_error(keyword: dict[str, Any]) -> None:
    """The oracle takes every value under it, and so does the grammar."""
    for value in (1, "x", [1, 1], {"a": 1}):
        schema = {"const": value} | keyword
        if "format" not in keyword:
            assert Draft202012Validator(schema).is_valid(value)
        assert takes(grammar.json_schema(schema), json.dumps(value))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "integer", "minimum": 2**53 + 1}, "$.minimum"),
        ({"type": "integer", "exclusiveMinimum": 2**53}, "$.exclusiveMinimum"),
        ({"type": "number", "exclusiveMaximum": -(2**53)}, "$.exclusiveMaximum"),
        ({"type": "integer", "maximum": -(10**30)}, "$.maximum"),
        ({"properties": {"a": {"exclusiveMinimum": 2**60}}}, "$.properties.a.exclusiveMinimum"),
        ({"const": 2**53 + 1}, "$.const"),
        ({"enum": [1, [{"a": 2**60}]]}, "$.enum"),
        ({"type": "object", "minProperties": 2}, "$.minProperties"),
        ({"patternProperties": {"^a": {}}, "additionalProperties": False, "minProperties": 2},
         "$.minProperties"),
    ],
)  # fmt: skip
def test_what_would_not_be_exact_is_refused(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        grammar.json_schema(schema)
    assert caught.value.path == path


@pytest.mark.parametrize("limit", [2**53 - 1, 2**53 + 1, 2**63 - 1, 1.7e308, 10**30])
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_bound_that_lets_smaller_numbers_pass_is_held(limit: float, kind: str) -> None:
    """What programs write for "any integer of the language": all that is written is exact."""
    made = grammar.json_schema({"type": kind, "minimum": -limit, "maximum": limit})
    assert takes(made, "0")
    assert takes(made, str(2**53 - 1))
    assert takes(made, str(1 - 2**53))
    assert not takes(made, str(2**53 + 1))
    above = grammar.json_schema({"type": kind, "minimum": 3, "exclusiveMaximum": limit})
    assert takes(above, "3")
    assert not takes(above, "2")


def test_one_key_more_than_the_required_ones_can_be_held() -> None:
    of_integers: dict[str, Any] = {"additionalProperties": {"type": "integer"}}
    one = grammar.json_schema({"type": "object", "minProperties": 1} | of_integers)
    assert takes(one, '{"a":1}')
    assert not takes(one, "{}")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number"},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "integer"},
        {"type": "integer", "minimum": 3},
        {"type": ["number", "null"]},
    ],
    ids=str,
)
def test_a_number_comes_to_its_end(schema: dict[str, Any]) -> None:
    """However often a weak model says a digit: some digit is the last."""
    matcher = follower(grammar.json_schema(schema))
    for prefix in ("3", "0."):
        matcher.reset()
        text = prefix + "0" * 10 + "1" * 20
        consumed = matcher.try_consume_tokens(list(text.encode()))
        assert consumed <= 17 + len(prefix)


@pytest.mark.parametrize(
    ("schema", "before"),
    [
        ({}, ""),
        (True, ""),
        ({"title": "any"}, ""),
        ({"minimum": -5}, ""),
        ({"type": "object"}, '{"a": '),
        ({"type": "object", "additionalProperties": True}, '{"a": [{"b": '),
        ({"type": "object", "properties": {"a": {}}}, '{"a": '),
        ({"type": "object", "properties": {"a": True}}, '{"a": '),
        ({"type": "object", "properties": {"b": {"type": "null"}}}, '{"b": null, "a": '),
        ({"type": "array"}, "["),
        ({"type": "array", "prefixItems": [{"type": "null"}]}, "[null, "),
        ({"type": "array", "items": {"$ref": "#/$defs/any"}, "$defs": {"any": {}}}, "["),
        ({"type": "array", "items": {"allOf": [{}, {"type": "number"}]}}, "["),
    ],
    ids=str,
)
def test_an_open_value_comes_to_its_end(schema: Any, before: str) -> None:
    """Where a schema says nothing, a number has no more digits, and no exponent."""
    made = grammar.json_schema(schema)
    matcher = follower(made)
    start = list(before.encode())
    assert matcher.try_consume_tokens(start) == len(start)
    for number in ("3" * 40, "0." + "1" * 40):
        assert matcher.validate_tokens(list(number.encode())) <= 18
    assert matcher.validate_tokens(list(b"1e5")) == 1


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"minimum": 3}, {"items": {}}], ids=str)
@pytest.mark.parametrize("value", [{"a": [1, None, {"b": "c"}]}, {}, [[], 0.5], 4, 2, "x", None])
def test_an_open_value_is_any(schema: dict[str, Any], value: object) -> None:
    valid = Draft202012Validator(schema).is_valid(value)
    assert takes(grammar.json_schema(schema), json.dumps(value)) == valid


@pytest.mark.parametrize("number", ["0", "-7", "3.25", "0.000000001", "9007199254740992"])
def test_numbers_of_every_kind_are_left(number: str) -> None:
    assert takes(grammar.json_schema({"type": "number"}), number)


def test_a_range_too_narrow_for_nine_digits_keeps_all_of_them() -> None:
    tiny = grammar.json_schema({"type": "number", "minimum": 0, "maximum": 1e-12})
    assert takes(tiny, "0.0000000000005")


def tagged(tag: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"k": {"const": tag}}, "required": ["k"]}


DEFS = {"A": tagged("a"), "B": tagged("b"), "L": {"type": "array"}, "S": {"type": "string"}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


@pytest.mark.parametrize(
    ("branches", "are_apart"),
    [
        ([ref("A"), {"type": "null"}], True),
        ([ref("A"), ref("B")], True),
        ([ref("A"), ref("A")], False),
        ([ref("A"), {"type": "object"}], False),
        ([{"type": "integer"}, ref("L")], True),
        ([{"type": "integer"}, {"type": "number"}], False),
        ([{"const": 1}, {"const": True}], True),
        ([{"const": 1}, {"const": 1.0}], False),
        ([{"const": "x"}, ref("S")], False),
        ([{"enum": ["x", "y"]}, ref("L")], True),
        ([{"type": ["string", "null"]}, {"type": ["null", "object"]}], False),
        ([ref("A"), ref("B"), ref("L"), {"type": "boolean"}], True),
        ([{}, {"type": "null"}], False),
    ],
    ids=str,
)
def test_branches_are_told_apart_by_type_or_constant(
    branches: list[dict[str, Any]], are_apart: bool
) -> None:
    """What is said to be apart has no value in common: the oracle finds none among many."""
    schema = {"oneOf": branches, "$defs": DEFS}
    assert exclude_each_other(branches, schema) is are_apart
    if are_apart:
        grammar.json_schema(schema)
        values = [1, 1.0, True, None, "x", "y", [], [1], {}, {"k": "a"}, {"k": "b"}, {"k": 1}]
        one, many = (
            Draft202012Validator(schema),
            Draft202012Validator({"anyOf": branches, "$defs": DEFS}),
        )
        assert [one.is_valid(v) for v in values] == [many.is_valid(v) for v in values]


def test_an_object_that_lists_its_properties_is_closed_by_default() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}}
    closed = grammar.json_schema(schema, is_closed=True)
    assert takes(closed, '{"a":null}')
    assert not takes(closed, '{"b":1}')
    for openness in (grammar.json_schema(schema),
                     grammar.json_schema(schema | {"additionalProperties": True}, is_closed=True),
                     grammar.json_schema({"type": "object"}, is_closed=True)):  # fmt: skip
        assert takes(openness, '{"b":1}')


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}, "required": ["b"]}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}, "required": ["b"]}]},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "required": ["a", "b"]},
    ],
    ids=str,
)
def test_parts_of_a_whole_stay_open(schema: dict[str, Any]) -> None:
    """Closed, one part would forbid what another asks for."""
    closed = grammar.json_schema({"type": "object"} | schema, is_closed=True)
    assert takes(closed, '{"a":1,"b":1}')


NOT_HELD: list[tuple[dict[str, Any], list[str]]] = [
    ({"properties": {"x": {"type": "array", "uniqueItems": True}}}, ["$.properties.x.uniqueItems"]),
    ({"properties": {"x": {"not": {"type": "null"}}}}, ["$.properties.x.not"]),
    ({"properties": {"x": {"type": "array", "contains": {}}}}, ["$.properties.x.contains"]),
    ({"if": {}, "then": {"required": ["a"]}}, ["$.if", "$.then"]),
    ({"dependentRequired": {"a": ["b"]}}, ["$.dependentRequired"]),
    ({"unevaluatedProperties": False}, ["$.unevaluatedProperties"]),
    ({"propertyNames": {"pattern": "^a"}}, ["$.propertyNames"]),
    ({"properties": {"x": {"type": "string", "nullable": True}}}, ["$.properties.x.nullable"]),
    ({"properties": {"x": {"enumDescriptions": ["a"]}}}, ["$.properties.x.enumDescriptions"]),
    ({"properties": {"x": {"markdownDescription": "a"}}}, ["$.properties.x.markdownDescription"]),
    ({"properties": {"x": {"type": "any"}}}, ["$.properties.x.type"]),
    ({"properties": {"x": {"type": "STRING"}}}, ["$.properties.x.type"]),
    ({"required": None}, ["$.required"]),
    ({"properties": {"x": {"type": "string", "pattern": "(?=a)b"}}},
     ["$.properties.x.pattern"]),
    ({"properties": {"x": {"$ref": "#/$defs/no"}}}, ["$.properties.x.$ref"]),
    ({"properties": {"x": {"type": "integer", "minimum": 2**64}}}, ["$.properties.x.minimum"]),
    ({"properties": {"x": {"oneOf": [{"type": "string"}, {"minLength": 2}]}}},
     ["$.properties.x.oneOf"]),
    ({"minProperties": 3}, ["$.minProperties"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "paths"), NOT_HELD, ids=str)
def test_what_is_not_strict_is_held_as_far_as_it_can_be(
    schema: dict[str, Any], paths: list[str]
) -> None:
    """And what a caller wants to be strict is refused, there or for the schema around it."""
    whole = {"type": "object", "additionalProperties": True} | schema
    held, left_out = grammar.lenient_json_schema(whole)
    assert left_out == paths
    assert (
        takes(held, '{"x":"ab","a":1}') or takes(held, '{"x":[],"a":1}') or takes(held, '{"x":1}')
    )
    with pytest.raises(ConstraintError) as refused:
        grammar.json_schema(whole)
    assert paths[0].startswith(refused.value.path)


def test_a_pattern_that_cannot_be_followed_goes_alone() -> None:
    """What stands beside it is held."""
    text = {"type": "string", "maxLength": 2, "pattern": "^(?=a)"}
    schema = {"type": "object", "properties": {"x": text}}
    held, left_out = grammar.lenient_json_schema(schema)
    assert left_out == ["$.properties.x.pattern"]
    assert takes(held, '{"x":"ab"}')
    assert not takes(held, '{"x":"abc"}')
    assert not takes(held, '{"x":1}')


def test_of_a_schema_that_fails_for_more_than_its_pattern_each_goes() -> None:
    step = {"type": "integer", "multipleOf": 2**53 + 1, "pattern": "^(?=a)"}
    schema = {"type": "object", "properties": {"x": step}}
    held, left_out = grammar.lenient_json_schema(schema)
    assert left_out == ["$.properties.x.pattern", "$.properties.x.multipleOf"]
    assert takes(held, '{"x":1}')
    assert not takes(held, '{"x":"a"}')


def test_the_callers_schema_is_not_changed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number", "not": {}}}}
    before = json.dumps(schema)
    followable(schema, is_lenient=True, is_closed=True)
    assert json.dumps(schema) == before
