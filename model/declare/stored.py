"""A tensor as a file keeps it: each row a chain of blocks, some numbers in some bytes.

A layer that multiplies by such blocks takes them as they lie; anybody else asks what they stand
for. Rows may be chosen and reordered without looking into a block, columns where blocks end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thirdeye.model.declare.parameter import Share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]


MULTIPLIED = (  # formats for which there are kernels: `enum format` in C
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"),
    *("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4"),
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`format` says how a block is read ("Q8_0"): the name its file format has for it.

    `blocks` [rows, bytes of a row] may be a view of the file, which nobody writes to.
    """

    format: str
    block_size: int  # numbers in a block
    shape: tuple[int, ...]  # of the numbers
    blocks: "Bytes"
    decode: "Callable[[Bytes], Floats]"  # [n, bytes of a row] -> [n, numbers of a row], fresh

    def widen(self) -> "Floats":
        """What the blocks stand for: float32 of `shape`, in memory of its own."""
        return self.decode(self.blocks).reshape(self.shape)

    def reordered(self, reorder: "Callable[[Bytes], Bytes]") -> "StoredTensor":
        """The same rows in another order."""
        return replace(self, blocks=reorder(self.blocks))

    def expert(self, index: int) -> "StoredTensor":
        """One matrix of a stack of them [experts, out, in]."""
        num_rows, width = self.shape[1:]
        blocks = self.blocks[index * num_rows : (index + 1) * num_rows]
        return replace(self, shape=(num_rows, width), blocks=blocks)

    def cut(self, share: Share) -> "StoredTensor | None":
        """These rows and columns of a matrix [out, in]; None where a block would be cut."""
        rows = [self.blocks[part] for part in share.rows]
        blocks = rows[0] if len(rows) == 1 else _stacked(rows)
        width = self.shape[1]
        if share.columns is not None:
            columns = share.columns
            if columns.start % self.block_size or columns.stop % self.block_size:
                return None
            unit = blocks.shape[1] // (width // self.block_size)  # bytes of a block
            first, last = columns.start // self.block_size, columns.stop // self.block_size
            blocks, width = blocks[:, first * unit : last * unit], columns.stop - columns.start
        return replace(self, shape=(len(blocks), width), blocks=blocks)


def _stacked(rows: "list[Bytes]") -> "Bytes":
    import numpy as np  # noqa: PLC0415 (whoever describes a model needs none)

    return np.concatenate(rows)
