"""A scale for all of a matrix, for each row, or for each of its blocks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.quantized.quantized_weight import Parts

if TYPE_CHECKING:
    from torch import Tensor

MAX_BLOCK = 1 << 20
SCALES = ("F32", "BF16", "F16", "F8_E8M0")


@dataclass(frozen=True, slots=True)
class ScaleBlocks:
    """[rows, columns] of the numbers that share a scale; None stands for all there are."""

    rows: int | None
    columns: int | None

    @property
    def title(self) -> str:
        match self.rows, self.columns:
            case None, None:
                return "one scale"
            case 1, None:
                return "by channel"
            case 1, columns:
                return f"groups of {columns}"
            case rows, columns:
                return f"blocks of {rows} x {columns}"

    def counts(self, height: int, width: int) -> tuple[int, int]:
        """How many scales a matrix has, each way."""
        rows, columns = self.rows or max(height, 1), self.columns or max(width, 1)
        return -(-height // rows), -(-width // columns)

    def spread(self, scales: "Tensor", rows: slice, width: int) -> "Tensor":
        """Scales of a whole matrix -> one for each number of some rows, [n, width] or [n, 1] or
        [1, 1], float32."""
        import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

        scales = scales.float()
        if scales.numel() == 1:
            return scales.reshape(1, 1)
        scales = scales.reshape(len(scales), -1)
        if self.rows is not None:
            scales = scales[torch.arange(rows.start, rows.stop) // self.rows]
        if self.columns is None:
            return scales
        return scales.repeat_interleave(self.columns, dim=1)[:, :width]


WHOLE = ScaleBlocks(None, None)
BY_ROW = ScaleBlocks(1, None)


def check_scales(
    parts: Parts, key: str, blocks: ScaleBlocks, height: int, width: int, dtypes: tuple[str, ...]
) -> None:
    """The part is there, and has a scale for each block. Raises `ModelFormatError`."""
    entry = parts.get(key, dtypes)
    counts = blocks.counts(height, width)
    shapes: list[tuple[int, ...]] = [counts]
    if counts[1] == 1:
        shapes.append(counts[:1])
    if counts == (1, 1):
        shapes.append(())
    if entry.shape not in shapes:
        raise entry.error(
            f"must have {' x '.join(map(str, counts))} scales ({blocks.title}), "
            f"got the shape {list(entry.shape)}."
        )


def read_blocks(fields: Fields, key: str) -> ScaleBlocks | None:
    """A pair of sizes, or none. Raises `ModelFormatError`."""
    value = fields.raw(key, None)
    if value is None:
        return None
    is_pair = isinstance(value, list) and len(value) == 2
    if not (is_pair and all(type(n) is int and 0 < n <= MAX_BLOCK for n in value)):
        raise fields.error(key, f"must be two sizes above 0, got {shown(value)}.")
    return ScaleBlocks(*value)
