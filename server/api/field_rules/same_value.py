"""Equality of JSON values: `true` is not 1, and 1 is 1.0."""

from collections.abc import Iterable


def is_one_of(value: object, others: Iterable[object]) -> bool:
    return any(same_value(value, other) for other in others)


def same_value(a: object, b: object) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and a == b
