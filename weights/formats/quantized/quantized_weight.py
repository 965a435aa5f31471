"""Several tensors of a file that stand for one matrix, and what a method says about them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.safetensors import FLOATS, ShardEntry

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 20  # numbers that are decoded at a time
ROWS = 64  # of a matrix that every method can decode apart from the others


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """`decode` takes the tensors by their parts' names and which rows are wanted, whose start is a
    multiple of `rows_at_once`, and gives [rows, ...] float32, or raises ValueError. The parts'
    dtypes and shapes were checked."""

    name: str  # as an unquantized checkpoint would call it
    format: str  # in people's words
    shape: tuple[int, ...]  # of what it stands for, [out, in] for a matrix
    parts: Mapping[str, ShardEntry]
    decode: "Callable[[Mapping[str, Tensor], slice], Tensor]"
    rows_at_once: int = ROWS
    # The same as blocks [..., out, in], where there are some that say no less.
    keep: "Callable[[Mapping[str, Tensor]], StoredTensor | None] | None" = None

    @property
    def num_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts.values())

    def stored(self) -> StoredTensor | None:
        """As blocks, which a layer may multiply by; None where `read` alone can say it."""
        if self.keep is None:
            return None
        return self.keep({key: part.read() for key, part in self.parts.items()})

    def read(self) -> "Tensor":
        """float32 of `shape`; what it takes beside is the stored parts and a few MB."""
        import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

        tensors = {key: part.read() for key, part in self.parts.items()}
        weight = torch.from_numpy(np.empty(self.shape, np.float32))
        height, *rest = self.shape
        unit = self.rows_at_once
        step = max(CHUNK // max(math.prod(rest), 1) // unit, 1) * unit
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            try:
                weight[rows] = self.decode(tensors, rows)
            except ValueError as error:
                raise next(iter(self.parts.values())).error(str(error)) from error
        return weight


@dataclass(frozen=True, slots=True)
class Parts:
    """The tensors of one module, by what the method calls them ("qweight")."""

    module: str
    entries: Mapping[str, ShardEntry]

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> ShardEntry:
        return self.entries[key]

    def get(self, key: str, dtypes: tuple[str, ...] = FLOATS, *shape: int | None) -> ShardEntry:
        """The part, of one of these dtypes and, if told, of this shape; None stands for any size.
        Raises `ModelFormatError`."""
        entry = self._entry(key)
        entry.check_dtype(dtypes)
        if not shape:
            return entry
        fits = len(entry.shape) == len(shape) and all(
            wanted in (None, size) for size, wanted in zip(entry.shape, shape, strict=True)
        )
        if not fits:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            raise entry.error(f"must have the shape {wanted}, got {list(entry.shape)}.")
        return entry

    @property
    def is_plain(self) -> bool:
        """Whether it is a weight that was left in floating point."""
        return set(self.entries) == {"weight"} and self["weight"].is_float

    def error(self, problem: str) -> ModelFormatError:
        return next(iter(self.entries.values())).error(problem)

    def skipped_error(self) -> ModelFormatError:
        return self.error("is quantized, and the settings say that its module is not.")

    def _entry(self, key: str) -> ShardEntry:
        if key not in self.entries:
            raise self.error(f"the tensor '{self.module}.{key}' that belongs to it is missing.")
        return self.entries[key]


class Method(Protocol):
    """One way to keep matrices in few bits."""

    # How the names of tensors of one weight end, behind the module's; and the ends of those that
    # nobody needs who computes in full precision.
    suffixes: ClassVar[tuple[str, ...]]
    unused: ClassVar[tuple[str, ...]]

    def weight(self, parts: Parts) -> QuantizedWeight | None:
        """What these tensors stand for; None if they are plain after all. Raises
        `ModelFormatError`."""
