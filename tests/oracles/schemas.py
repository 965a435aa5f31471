"""Random JSON schemas of every kind that can be followed, small enough to be finished.

A random model writes random text, so strings and lists are bounded: an answer that `max_tokens`
cuts proves nothing. The same seed gives the same schema.
"""

import random
from typing import Any

Schema = dict[str, Any]

PATTERNS = ["^[a-z]{2,5}$", "^[A-Z][0-9]{1,3}$", "^(yes|no)$", "a[bc]$", "^x-"]
FORMATS = ["date", "time", "ipv4", "uuid"]
VALUES: list[Any] = [None, True, 0, -7, 2.5, "word", 'a "b"', "é😀", [1, "x"], {"k": [None]}, ""]


def random_schema(seed: int) -> Schema:
    chance = random.Random(seed)
    schema = _schema(chance, 2)
    if chance.random() < 0.2:
        named = {"$defs": {"thing": _schema(chance, 1)}}
        schema = named | _object({"first": {"$ref": "#/$defs/thing"}, "second": schema}, ["first"])
    return schema


def _schema(chance: random.Random, depth: int) -> Schema:
    kinds = [_string, _integer, _number, _enum, _const, _plain]
    nested = [_properties, _array, _tuple, _any_of, _map]
    return chance.choice(nested if depth and chance.random() < 0.7 else kinds)(chance, depth)


def _string(chance: random.Random, depth: int) -> Schema:
    rule: Schema = chance.choice(
        [
            {"maxLength": chance.randrange(6)},
            {"minLength": 2, "maxLength": chance.randrange(2, 8)},
            {"pattern": chance.choice(PATTERNS[:3])},
            {"pattern": chance.choice(PATTERNS), "maxLength": 6},
            {"format": chance.choice(FORMATS)},
        ]
    )
    return {"type": "string"} | rule


def _integer(chance: random.Random, depth: int) -> Schema:
    low = chance.randrange(-200, 200)
    rule: Schema = chance.choice(
        [
            {"minimum": low, "maximum": low + chance.randrange(500)},
            {"exclusiveMinimum": low, "exclusiveMaximum": low + 2 + chance.randrange(50)},
            {"minimum": 0, "maximum": 1000, "multipleOf": chance.choice([2, 5, 25])},
        ]
    )
    return {"type": "integer"} | rule


def _number(chance: random.Random, depth: int) -> Schema:
    low = chance.randrange(-50, 50)
    return {"type": "number", "minimum": low, "maximum": low + chance.choice([0, 1, 40])}


def _enum(chance: random.Random, depth: int) -> Schema:
    return {"enum": chance.sample(VALUES, chance.randrange(1, 5))}


def _const(chance: random.Random, depth: int) -> Schema:
    return {"const": chance.choice(VALUES)}


def _plain(chance: random.Random, depth: int) -> Schema:
    return {"type": chance.choice(["boolean", "null", ["boolean", "null"]]), "title": "t"}


def _object(properties: Schema, required: list[str], **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": required} | more


def _properties(chance: random.Random, depth: int) -> Schema:
    names = chance.sample(["a", "name", "is it", "été", 'q"', "x1"], chance.randrange(1, 4))
    properties = {name: _schema(chance, depth - 1) for name in names}
    required = [name for name in names if chance.random() < 0.7]
    return _object(properties, required, additionalProperties=False)


def _map(chance: random.Random, depth: int) -> Schema:
    values = _schema(chance, 0)
    if chance.random() < 0.5:
        return {
            "type": "object",
            "patternProperties": {"^k[0-9]$": values},
            "additionalProperties": False,
            "maxProperties": 2,
        }
    return {"type": "object", "additionalProperties": values, "maxProperties": 1}


def _array(chance: random.Random, depth: int) -> Schema:
    low = chance.randrange(3)
    limits = {"minItems": low, "maxItems": low + chance.randrange(3)}
    return {"type": "array", "items": _schema(chance, depth - 1)} | limits


def _tuple(chance: random.Random, depth: int) -> Schema:
    items = [_schema(chance, depth - 1) for _ in range(chance.randrange(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _any_of(chance: random.Random, depth: int) -> Schema:
    return {"anyOf": [_schema(chance, depth - 1) for _ in range(2)]}
