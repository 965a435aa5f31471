"""Numbers of so many digits: those of schemas without bounds never come to an end by themselves.

What lies beyond 2^53 would not be exact, and is not written at all, whether a schema lets it pass
or says nothing.
"""

from thirdeye.server.text.constraints.json_schema import Schema
from thirdeye.server.text.constraints.schema_keywords import MAX_EXACT

SMALLEST_DIGIT = 1e-9
_LOW, _HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


def narrow(node: Schema) -> None:
    """Bounds beyond 2^53, in place, where the range has smaller ones too."""
    low = max((v for name in _LOW if (v := _number(node, name)) is not None), default=-MAX_EXACT)
    high = min((v for name in _HIGH if (v := _number(node, name)) is not None), default=MAX_EXACT)
    if low >= MAX_EXACT or high <= -MAX_EXACT:
        return
    for names, sign in ((_LOW, -1), (_HIGH, 1)):
        for name in names:
            value = _number(node, name)
            if value is not None and sign * value > MAX_EXACT:
                node[name] = sign * MAX_EXACT


def cap_numbers(node: Schema) -> None:
    """Bounds and a smallest digit for a schema of numbers that has none, in place."""
    kind = node.get("type")
    kinds = set(kind) if isinstance(kind, list) else {kind}
    if {"const", "enum"} & node.keys() or not {"integer", "number"} & kinds:
        return
    if not set(_LOW) & node.keys():
        node["minimum"] = -MAX_EXACT
    if not set(_HIGH) & node.keys():
        node["maximum"] = MAX_EXACT
    if "number" in kinds and "multipleOf" not in node and _width(node) >= SMALLEST_DIGIT * 1000:
        node["multipleOf"] = SMALLEST_DIGIT


def _width(node: Schema) -> float:
    low = max(v for name in _LOW if (v := _number(node, name)) is not None)
    high = min(v for name in _HIGH if (v := _number(node, name)) is not None)
    return float(high - low)


def _number(node: Schema, name: str) -> float | None:
    value = node.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
