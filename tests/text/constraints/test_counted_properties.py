"""`minProperties`, `maxProperties` beside properties that may be left out, against jsonschema."""

import json
from itertools import combinations
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.text.byte_grammar import accepts
from thirdeye.server.text.constraints.constraint import (
    ConstraintError,
    json_schema,
    lenient_json_schema,
)

NAMES = ("a", "b", "c", "d", "e")
VALUES = [({"type": "integer"}, 7), ({"const": "x"}, "x"), ({"type": ["null", "boolean"]}, True)]


def takes(grammar: str, value: object) -> bool:
    return accepts(grammar, json.dumps(value))


@st.composite
def counted(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, object]]:
    """A closed object that counts, and a value for each of its properties."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    kinds = [draw(st.sampled_from(VALUES)) for _ in names]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": dict(zip(names, (kind for kind, _ in kinds), strict=True)),
        "required": [name for name in names if draw(st.integers(0, 2)) == 0],
        "additionalProperties": False,
    }
    for word in draw(st.sampled_from([("maxProperties",), ("minProperties",), ("min", "max")])):
        schema[word if word[3:] else f"{word}Properties"] = draw(st.integers(0, len(names)))
    return schema, dict(zip(names, (value for _, value in kinds), strict=True))


@pytest.mark.parametrize("is_inside", [False, True])
@draws(12, 300)
@given(drawn=counted())
def test_every_set_of_keys_is_judged_as_by_a_validator(
    is_inside: bool, drawn: tuple[dict[str, Any], dict[str, object]]
) -> None:
    schema, values = drawn
    if is_inside:
        schema = {"type": "array", "items": schema}
    sets = [names for n in range(len(values) + 1) for names in combinations(values, n)]
    objects: list[Any] = [{name: values[name] for name in names} for names in sets]
    told = [[value] if is_inside else value for value in objects]
    valid = [jsonschema_rs.is_valid(schema, value) for value in told]
    if not any(valid):
        if not is_inside:
            with pytest.raises(ConstraintError):
                json_schema(schema)
        return
    grammar = json_schema(schema)
    assert [takes(grammar, value) for value in told] == valid
    assert lenient_json_schema(schema) == (grammar, [])
    wrong = [value | {"zz": 1} for value in objects]
    assert not any(takes(grammar, [value] if is_inside else value) for value in wrong)


def test_too_many_sets_are_refused_with_the_way_out() -> None:
    properties = {f"p{i}": {"type": "integer"} for i in range(12)}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    with pytest.raises(ConstraintError, match="list them in 'required'") as failed:
        json_schema(schema | {"maxProperties": 6})
    assert failed.value.path == "$.maxProperties"
    grammar = json_schema(schema | {"maxProperties": 1})
    assert takes(grammar, {"p11": 1})
    assert not takes(grammar, {"p0": 1, "p11": 1})
