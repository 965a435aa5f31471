"""Schemas without a finite value are found, and no other: a least fixed point against unrolling."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from tests.text.constraints.test_followable import takes
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.constraints.endless import endless_path
from thirdeye.server.text.constraints.trials.refusal import ConstraintError

SELF = {"$ref": "#"}
NODE = {"$ref": "#/$defs/node"}


def needs(name: str, schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}, "required": [name]}


ENDLESS: list[tuple[dict[str, Any], str]] = [
    (SELF, "$"),
    ({"allOf": [SELF]}, "$"),
    ({"anyOf": [SELF]}, "$"),
    ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, "$"),
    (needs("child", SELF), "$.properties.child"),
    (needs("child", NODE) | {"$defs": {"node": SELF}}, "$.properties.child"),
    (needs("a", {"type": "array", "items": SELF, "minItems": 1}), "$.properties.a"),
    (
        {"type": "array", "prefixItems": [{"type": "null"}, SELF], "minItems": 2},
        "$.prefixItems[1]",
    ),
    ({"anyOf": [{"type": "null"}, needs("a", {"$ref": "#/anyOf/1"})]}, "$.anyOf[1].properties.a"),
    (
        {"allOf": [{"properties": {"a": SELF}}, {"type": "object", "required": ["a"]}]},
        "$.allOf[0].properties.a",
    ),
    (
        {"type": "object", "additionalProperties": SELF, "minProperties": 1},
        "$.additionalProperties",
    ),
    (
        {"type": "object", "properties": {"a": NODE}, "$defs": {"node": needs("b", NODE)}},
        "$.$defs.node.properties.b",
    ),
]
ENDING: list[tuple[dict[str, Any], object]] = [
    ({"type": "object", "properties": {"child": SELF}}, {"child": {"child": {}}}),
    (needs("next", {"anyOf": [{"type": "null"}, SELF]}), {"next": {"next": None}}),
    ({"type": "array", "items": SELF}, [[], [[]]]),
    ({"type": ["array", "null"], "items": SELF, "minItems": 1}, [None, [None]]),
    ({"anyOf": [{"type": "integer"}, needs("left", SELF)]}, {"left": {"left": 1}}),
    ({"type": "null", "$defs": {"unused": needs("a", {"$ref": "#/$defs/unused"})}}, None),
    (needs("a", {"allOf": [NODE, NODE]}) | {"$defs": {"node": {"type": "null"}}}, {"a": None}),
    (
        {"allOf": [NODE], "anyOf": [NODE, {"type": "null"}], "$defs": {"node": {"const": None}}},
        None,
    ),
]


@pytest.mark.parametrize(("schema", "path"), ENDLESS, ids=str)
def test_what_never_ends_is_refused_with_its_path(schema: dict[str, Any], path: str) -> None:
    """And left out of a grammar that need not be strict, which then can end."""
    assert endless_path(schema) == path
    with pytest.raises(ConstraintError, match="never ends") as error:
        grammar.json_schema(schema)
    assert error.value.path == path
    _, left_out = grammar.lenient_json_schema(schema)
    assert left_out == [path]


@pytest.mark.parametrize(("schema", "value"), ENDING, ids=str)
def test_a_recursion_with_an_end_is_followed(schema: dict[str, Any], value: object) -> None:
    assert endless_path(schema) == ""
    assert takes(grammar.json_schema(schema), json.dumps(value))


def test_a_long_chain_is_found_in_linear_time() -> None:
    """Each schema needs the next, in the order that is the worst for a search from the front."""
    chain: dict[str, Any] = {f"n{i}": needs("a", {"$ref": f"#/$defs/n{i + 1}"}) for i in range(900)}
    ends = chain | {"n900": {"type": "null"}}
    assert endless_path({"$ref": "#/$defs/n0", "$defs": ends}) == ""
    loops = chain | {"n900": needs("a", {"$ref": "#/$defs/n0"})}
    assert endless_path({"$ref": "#/$defs/n0", "$defs": loops}) != ""
    many = {f"n{i}": {"anyOf": [{"$ref": f"#/$defs/n{i + 1}"}] * 2} for i in range(60)}
    assert endless_path({"$ref": "#/$defs/n0", "$defs": many | {"n60": {"type": "null"}}}) == ""


NAMES = [f"n{i}" for i in range(4)]
references = st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in NAMES])
schemas = st.recursive(
    references | st.just({"type": "null"}),
    lambda inner: st.one_of(
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(lambda a: needs("a", a), inner),
        st.builds(
            lambda a, b: {"type": "object", "properties": {"a": a, "b": b}, "required": ["b"]},
            *(inner, inner),
        ),
        st.builds(
            lambda a, n: {"type": "array", "items": a, "minItems": n}, inner, st.integers(0, 2)
        ),
    ),
    max_leaves=4,
)


def unrolled(node: dict[str, Any], defs: dict[str, Any], fuel: int) -> bool:
    """Whether there is a value within so many references."""
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return fuel > 0 and unrolled(defs[name], defs, fuel - 1)
    if "anyOf" in node:
        return any(unrolled(branch, defs, fuel) for branch in node["anyOf"])
    if node["type"] == "array":
        return not node["minItems"] or unrolled(node["items"], defs, fuel)
    inner = node.get("properties", {})
    return all(unrolled(inner[name], defs, fuel) for name in node.get("required", []))


def reached(node: dict[str, Any], defs: dict[str, Any], seen: set[str]) -> list[dict[str, Any]]:
    """The schema and all that it may come to."""
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        further = [] if name in seen else reached(defs[name], defs, seen | {name})
        return [node, *further]
    inner = [*node.get("anyOf", []), *node.get("properties", {}).values()]
    inner += [node["items"]] if "items" in node else []
    return [node, *(found for child in inner for found in reached(child, defs, seen))]


@draws(60, 2000)
@given(defs=st.fixed_dictionaries(dict.fromkeys(NAMES, schemas)))
def test_as_unrolling_says(defs: dict[str, Any]) -> None:
    root = {"$ref": "#/$defs/n0"}
    all_end = all(unrolled(node, defs, len(NAMES)) for node in reached(root, defs, set()))
    assert (endless_path(root | {"$defs": defs}) == "") is all_end
