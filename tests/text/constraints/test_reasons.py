"""A schema that cannot be followed is refused for a keyword, at its path, with the way out; a tool
that is not strict loses that keyword and no other."""

import json
from typing import Any

import pytest

from thirdeye.server.text.constraints.constraint import (
    ConstraintError,
    json_schema,
    lenient_json_schema,
    regex,
)
from thirdeye.server.text.constraints.reasons.regex_rules import unfollowable_regex

A = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
MANY = {"properties": {f"p{i}": {"type": "string"} for i in range(12)}}
REASONS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "string", "pattern": "^(?=x)y"}, "pattern", "must have no look-around, as '(?=' is"),
    ({"type": "string", "pattern": "(?<!x)y"}, "pattern", "must have no look-around, as '(?<!' is"),
    ({"type": "string", "pattern": r"(a)\1"}, "pattern", "must have no reference back to a group"),
    ({"type": "string", "pattern": "(a"}, "pattern", "is no regular expression of the syntax"),
    ({"patternProperties": {"^(?!x)": {}}}, "patternProperties", "must have no look-around"),
    ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf", "use 'anyOf', or give each"),
    ({"oneOf": [A, {"type": "object"}]}, "oneOf", "use 'anyOf', or give each branch a 'const'"),
    ({"type": "number", "multipleOf": 1e-12}, "multipleOf", "has too many digits"),
    ({"type": "number", "multipleOf": 3, "minimum": 1, "maximum": 2}, "multipleOf", "wider bounds"),
    (A | {"type": "object", "maxProperties": 1, "additionalProperties": True}, "maxProperties",
     "list them in 'required', or leave it out"),
    (MANY | {"type": "object", "minProperties": 6, "additionalProperties": False}, "minProperties",
     "list them in 'required', or leave it out"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum", "contradicts what stands beside"),
    ({"const": "a", "type": "integer"}, "const", "contradicts what stands beside it"),
    ({"type": "string", "pattern": "^a{5}$", "maxLength": 3}, "pattern", "contradicts"),
]  # fmt: skip


@pytest.mark.parametrize("path", ["$", "$.properties.x", "$.$defs.d"])
@pytest.mark.parametrize(("schema", "keyword", "rule"), REASONS, ids=str)
def test_the_keyword_its_path_and_the_way_out(
    schema: dict[str, Any], keyword: str, rule: str, path: str
) -> None:
    whole = schema
    if path == "$.properties.x":
        whole = {"type": "object", "properties": {"y": {}, "x": schema}, "required": ["x"]}
    elif path == "$.$defs.d":
        whole = {"$defs": {"d": schema}, "type": "array", "items": {"$ref": "#/$defs/d"}}
        whole["minItems"] = 1
    with pytest.raises(ConstraintError) as failed:
        json_schema(whole)
    assert failed.value.path == f"{path}.{keyword}"
    assert rule in failed.value.rule


@pytest.mark.parametrize(("schema", "keyword", "rule"), REASONS, ids=str)
def test_a_lenient_schema_loses_that_alone(schema: dict[str, Any], keyword: str, rule: str) -> None:
    kept = {"kept": {"const": "kept word"}}
    whole = {"type": "object", "properties": {**kept, "x": schema}, "required": ["x"]}
    grammar, left_out = lenient_json_schema(whole)
    assert left_out == [f"$.properties.x.{keyword}"]
    assert "kept word" in json.dumps(json.loads(grammar))
    _, left_out = lenient_json_schema({"description": "d"} | schema)
    assert left_out == [f"$.{keyword}"]


@pytest.mark.parametrize(
    "schema",
    [
        A | {"maxProperties": 2, "additionalProperties": False},
        A | {"minProperties": 2, "required": ["a", "b"]},
        A | {"minProperties": 0, "additionalProperties": True},
    ],
)
def test_a_count_that_is_so_anyway_asks_for_nothing(schema: dict[str, Any]) -> None:
    json_schema(schema | {"type": "object"})
    assert lenient_json_schema(schema | {"type": "object"})[1] == []


@pytest.mark.parametrize(
    "pattern",
    [r"\(?=", r"[(?=]", r"(?:a)", "(?P<n>a)", r"\\1", "[^](?!]", "(?i)a", r"\d\.", "(?<n>a)"],
)
def test_what_only_looks_like_it_is_none(pattern: str) -> None:
    assert unfollowable_regex(pattern) == ""


def test_a_regular_expression_alone_says_so_too() -> None:
    with pytest.raises(ConstraintError, match="must have no look-around, as '\\(\\?!' is"):
        regex("(?!a)b")
