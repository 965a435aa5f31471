"""Counts of properties of which some may be left out: each set that fits is an object of its own.

    {"properties": {"a": A, "b": B}, "maxProperties": 1, "additionalProperties": false}
    -> anyOf: {}, {"a": A}, {"b": B}, each closed and with all of its properties

llguidance counts where all of them are required, or none are listed. Exact: of a closed object the
sets of keys are all that there is to count, as long as there are few of them.
"""

import json
from itertools import combinations
from math import comb

from thirdeye.server.text.constraints.json_schema import Schema

MAX_SETS = 64
MAX_CHARS = 64 * 1024  # of the schemas that are written for one
_COUNTS = ("minProperties", "maxProperties")
_READ = frozenset({"type", "properties", "required", "additionalProperties", *_COUNTS})
_IN_THE_WAY = ("$ref", "allOf", "anyOf", "oneOf", "const", "enum", "patternProperties")


def list_sets(node: Schema) -> None:
    """In place, where the node counts, is a closed object and nothing else, and has few sets."""
    properties, required = node.get("properties"), node.get("required", [])
    is_closed = node.get("type") == "object" and node.get("additionalProperties") is False
    if not is_closed or not isinstance(properties, dict) or not isinstance(required, list):
        return
    if any(word in node for word in _IN_THE_WAY) or not set(required) <= properties.keys():
        return
    optional = [name for name in properties if name not in required]
    fewest, most = node.get("minProperties", 0), node.get("maxProperties", len(properties))
    if not isinstance(fewest, int) or not isinstance(most, int):
        return
    num_needed = len(properties) - len(optional)
    sizes = range(max(fewest - num_needed, 0), min(most - num_needed, len(optional)) + 1)
    num_sets = sum(comb(len(optional), size) for size in sizes)
    is_few = num_sets <= MAX_SETS and num_sets * len(json.dumps(properties)) <= MAX_CHARS
    if not num_sets or len(sizes) == len(optional) + 1 or not is_few:
        return
    sets = [{*required, *chosen} for size in sizes for chosen in combinations(optional, size)]
    for word in _READ & node.keys():
        del node[word]
    node["anyOf"] = [
        _of(names, {name: each for name, each in properties.items() if name in names})
        for names in sets
    ]


def _of(names: set[str], properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(names),
        "additionalProperties": False,
    }
