"""Whether a rank for each token says what a list of merges says.

tiktoken merges any two neighbours that are a token together; byte-pair encoding those alone that
its list names. Both give the same as long as each token comes out of its own text by its own merge:
what happens inside a token's text happens there in any text. A list that somebody extended by hand
has tokens that do not, as an earlier merge takes their parts away.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Merge = tuple[bytes, bytes]
Indices = NDArray[np.int64]


def all_come_out(merges: Sequence[Merge], single: Iterable[bytes]) -> bool:
    """Whether each merge's result is what its text becomes. `single`: the tokens of one byte.

    Of each merge both sides are taken apart again, the later merge first, down to bytes: at no time
    may the two that touch each other be a pair that was to be merged earlier. `merges` give a token
    each, in order, of tokens that came before or of one byte.
    """
    index = {text: i for i, text in enumerate(single)}
    first = len(index)  # bytes come before what is merged
    for left, right in merges:
        index.setdefault(left + right, len(index))
    sides = itertools.chain.from_iterable(merges)
    parts = np.fromiter((index.get(side, -1) for side in sides), np.int64).reshape(-1, 2)
    results = np.arange(first, first + len(merges))
    if len(index) != first + len(merges) or (parts < 0).any() or (parts >= results[:, None]).any():
        return False
    keys = parts[:, 0] * len(index) + parts[:, 1]
    order = np.argsort(keys)
    ordered = keys[order]
    lefts, rights = _sides(first, parts)
    a, b, limit = parts[:, 0], parts[:, 1], results  # the two that touch each other
    while len(a):
        pairs = a * len(index) + b
        at = np.minimum(np.searchsorted(ordered, pairs), len(keys) - 1)
        if ((ordered[at] == pairs) & (results[order[at]] < limit)).any():
            return False
        is_merged = np.maximum(a, b) >= first
        a, b = a[is_merged], b[is_merged]
        limit = np.where(a > b, a, b + 1)
        a, b = np.where(a > b, rights[a], a), np.where(a > b, b, lefts[b])
    return True


def _sides(first: int, parts: Indices) -> tuple[Indices, Indices]:
    """Of each token the left and the right one that it is made of; of a byte itself."""
    bytes_ = np.arange(first)
    return np.concatenate([bytes_, parts[:, 0]]), np.concatenate([bytes_, parts[:, 1]])


def any_can_be_merged(whole: Iterable[bytes], ranks: Mapping[bytes, int]) -> bool:
    """Whether two tokens together are one of `whole`, which no merge gives."""
    return any(
        text[:cut] in ranks and text[cut:] in ranks for text in whole for cut in range(1, len(text))
    )
