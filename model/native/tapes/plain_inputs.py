"""Where a tape has the numbers of a step that decodes, to be written without torch.

A model's weights pass through the processor's caches in each step, so whatever Python, numpy or
torch do next is fetched from memory anew: a call of torch is tens of microseconds then, and these
few assignments are one or two.
"""

from array import array
from typing import Literal

from torch import Tensor

from thirdeye.model.batch import PlainStep
from thirdeye.model.native.paged_attention import Tiles


class PlainInputs:
    """Of one shape: B sequences with T tokens, a table of M columns."""

    def __init__(self, token_ids: Tensor, positions: Tensor, slots: Tensor, tiles: Tiles) -> None:
        """token_ids, positions, slots [T] int64, and a tile for each of the B."""
        longs = (token_ids, positions, slots)
        self._token_ids, self._positions, self._slots = (view_of(each, "q") for each in longs)
        self._tiles, self._table = view_of(tiles.tiles, "i"), view_of(tiles.block_table, "i")
        self._width = tiles.block_table.shape[1]

    def write(self, step: PlainStep) -> None:
        size, width = step.block_size, self._width
        positions: list[int] = []
        slots: list[int] = []
        tiles: list[int] = []
        for row, table in enumerate(step.tables):
            start, count = step.starts[row], step.counts[row]
            tiles += (row, len(positions), count, start)
            own = range(start, start + count)
            positions += own
            slots += [table[at // size] * size + at % size for at in own]
            first = row * width
            self._table[first : first + len(table)] = array("i", table)
        self._token_ids[:] = array("q", step.token_ids)
        self._positions[:] = array("q", positions)
        self._slots[:] = array("q", slots)
        self._tiles[:] = array("i", tiles)


def view_of(tensor: Tensor, kind: Literal["q", "i"]) -> memoryview:
    """Its numbers, one after the other, to be written to."""
    return tensor.view(-1).numpy().data.cast("B").cast(kind)
