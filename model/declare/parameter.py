"""One parameter of a model: its shape, what its rows are, and which share of it is whose.

Matrices are [out, in]. The rows of a merged layer have names ("q", "k", "v"), so that a checkpoint
that keeps them apart fills each by its name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What weights are for: the fields of `ParameterCounts`."""

    EMBEDDINGS = "embeddings"
    POSITIONS = "positions"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    STATE = "state"
    MLP = "mlp"
    ROUTER = "router"
    NORMS = "norms"
    HEAD = "head"


class Fill(StrEnum):
    """What a freshly initialized parameter holds."""

    NOISE = "noise"
    ONES = "ones"
    ZEROS = "zeros"


class Dealt(StrEnum):
    """How the ranks of tensor parallelism share a parameter."""

    WHOLE = "whole"  # each has all of it
    ROWS = "rows"  # each has some rows of every part, equally many
    COLUMNS = "columns"  # each has some columns, equally many
    PARTS = "parts"  # each has some of the named rows, equally many
    TOKENS = "tokens"  # each has some rows, the last rank perhaps fewer
    FIRST = "first"  # rank 0 has it, the others zeros: it is counted once in a sum


@dataclass(frozen=True, slots=True)
class Rows:
    """So many rows that belong together; `name` is for those of a merged layer."""

    size: int
    role: Role
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank keeps of a tensor: these rows one after the other, these columns of them."""

    rows: tuple[slice, ...]
    columns: slice | None = None  # None: all
    is_zeros: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """All of it, whoever has which share. `row_shape` is () for a vector, (in,) for a matrix."""

    rows: tuple[Rows, ...]
    row_shape: tuple[int, ...] = ()
    dealt: Dealt = Dealt.WHOLE
    fill: Fill = Fill.NOISE

    @property
    def parts(self) -> list[str]:
        """The names of a merged layer's rows, top to bottom; [] if it is one piece."""
        return [rows.name for rows in self.rows if rows.name is not None]

    def shape(self, part: str | None = None) -> tuple[int, ...]:
        """Of all of it, or of its rows that are `part`. Raises KeyError if there are none."""
        rows = self._rows(part)
        return (rows.stop - rows.start, *self.row_shape)

    def counts(self) -> list[tuple[Role, int]]:
        """How many numbers of it each of its parts has, and what they are for."""
        width = math.prod(self.row_shape)
        return [(rows.role, rows.size * width) for rows in self.rows]

    def share(self, part: str | None, rank: int, num_ranks: int) -> Share:
        """What `rank` takes of the whole tensor that is `part`, or of all of it."""
        sizes = [rows.size for rows in self.rows if part in (None, rows.name)]
        if self.dealt is Dealt.ROWS:
            return Share(tuple(_even_rows(sizes, rank, num_ranks)))
        if self.dealt is Dealt.PARTS:
            first, last = self._own_parts(rank, num_ranks)
            if part is not None:
                is_own = first <= self.parts.index(part) < last
                return Share((slice(0, sizes[0] if is_own else 0),))
            return Share((slice(sum(sizes[:first]), sum(sizes[:last])),))
        if self.dealt is Dealt.TOKENS:
            return Share((token_rows(sum(sizes), rank, num_ranks),))
        everything = (slice(0, sum(sizes)),)
        if self.dealt is Dealt.COLUMNS:
            width = self.row_shape[0] // num_ranks
            return Share(everything, slice(rank * width, (rank + 1) * width))
        return Share(everything, is_zeros=self.dealt is Dealt.FIRST and rank > 0)

    def own_shape(self, rank: int, num_ranks: int) -> tuple[int, ...]:
        """Of what `rank` has of it."""
        share = self.share(None, rank, num_ranks)
        height = sum(rows.stop - rows.start for rows in share.rows)
        if share.columns is not None:
            return (height, share.columns.stop - share.columns.start)
        return (height, *self.row_shape)

    def own_rows(self, part: str | None, rank: int, num_ranks: int) -> slice:
        """Where `part` lies in what `rank` has of it."""
        if part is None:
            return slice(0, self.own_shape(rank, num_ranks)[0])
        rows = self._rows(part)
        if self.dealt is Dealt.PARTS:
            first, last = self._own_parts(rank, num_ranks)
            if not first <= self.parts.index(part) < last:
                return slice(0, 0)
            before = sum(other.size for other in self.rows[:first])
            return slice(rows.start - before, rows.stop - before)
        divisor = num_ranks if self.dealt is Dealt.ROWS else 1
        return slice(rows.start // divisor, rows.stop // divisor)

    def _own_parts(self, rank: int, num_ranks: int) -> tuple[int, int]:
        """The first of the named rows that are a rank's, and the first behind them."""
        return len(self.rows) * rank // num_ranks, len(self.rows) * (rank + 1) // num_ranks

    def _rows(self, part: str | None) -> slice:
        """Raises KeyError if there is no such part."""
        start = 0
        for rows in self.rows:
            if rows.name == part is not None:
                return slice(start, start + rows.size)
            start += rows.size
        if part is not None:
            raise KeyError(part)
        return slice(0, start)


def token_rows(vocab_size: int, rank: int, num_ranks: int) -> slice:
    """The rows of the head that are this rank's: equally many, but for the last rank's."""
    height = -(-vocab_size // num_ranks)
    return slice(rank * height, min((rank + 1) * height, vocab_size))


def _even_rows(sizes: list[int], rank: int, num_ranks: int) -> Iterator[slice]:
    """Some of each stretch of rows, equally many for every rank."""
    start = 0
    for size in sizes:
        own = size // num_ranks
        yield slice(start + rank * own, start + (rank + 1) * own)
        start += size
