"""Embeddings by mean pooling: the direction of the mean of a prompt's final hidden states.

A prompt is computed in chunks, and sums of floats depend on their order. So each value is first
made a fixed-point number, an integer, and integers add up to the same however they are grouped: in
one chunk or many, alone or in a batch, preempted or not. Only the direction is wanted, so neither
the mean's division nor the scale of the numbers is ever undone. Knows no tensor: the runner sums.
"""

import math
from collections.abc import Sequence

FRACTION_BITS = 28  # a hidden state is known to 4e-9
MAX_HIDDEN = 2.0**18  # beyond, it is cut: 2^17 tokens of it still add up to less than 2^63


def add_sums(sums: Sequence[int], more: Sequence[int]) -> list[int]:
    """Element by element; an empty one counts as zeros."""
    if not sums or not more:
        return [*(sums or more)]
    return [left + right for left, right in zip(sums, more, strict=True)]


def unit_vector(sums: Sequence[int]) -> list[float]:
    """The vector of length 1 (L2 norm) that points the same way; zeros stay zeros."""
    length = math.sqrt(sum(value * value for value in sums))
    return [value / length if length else 0.0 for value in sums]
