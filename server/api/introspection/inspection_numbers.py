"""Arrays of float32 as JSON: nested lists of rounded numbers, or packed."""

import base64
import math
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from msgspec import Struct

from thirdeye.server.api.http.json_response import Count
from thirdeye.server.engine.interface.trace import Array

DIGITS = 6  # of a number in JSON, behind the point


class PackedArray(Struct):
    """Little-endian and row-major, in base64."""

    shape: list[Count]
    dtype: Literal["float32"]
    data: str


Numbers = list[Any] | PackedArray


def written(values: Array, is_packed: bool) -> Numbers:
    return packed(values) if is_packed else numbers(values)


def numbers(values: Array) -> list[Any]:
    """Nested lists; what is no number is None."""
    flat = [None if math.isnan(x) else round(x, DIGITS) for x in floats(values)]
    return nested(flat, values.shape)


def floats(values: Array) -> list[float]:
    found: list[Any] = memoryview(values.data).cast("f").tolist()
    return found


def nested(flat: Sequence[object], shape: Sequence[int]) -> list[object]:
    """Row-major values in lists of lists: 6 values of shape [2, 3] are two lists of three."""
    if len(shape) == 1:
        return list(flat)
    size = prod(shape[1:])
    return [nested(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def packed(values: Array) -> PackedArray:
    return PackedArray(values.shape, "float32", base64.b64encode(values.data).decode())
