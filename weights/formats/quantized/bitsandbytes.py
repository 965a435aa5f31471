"""bitsandbytes: four bits that look a value up (nf4, fp4), and eight bits by row.

    weight                  U8            two numbers a byte, the upper half first, row by row
    weight.quant_map        F32 [16]      their values
    weight.absmax           F32 [blocks]  a scale a block of so many numbers, over borders of rows
    weight.quant_state...   U8            a JSON object: the weight's shape, sizes of blocks

Scales may be quantized again: then absmax holds bytes, and

    weight.nested_quant_map F32 [256], weight.nested_absmax F32   scale = value * nested + offset

Of eight bits:

    weight  I8 [out, in], SCB F32 [out]   weight = number * SCB / 127
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, ClassVar

from thirdeye.weights.formats.directory import parse_object
from thirdeye.weights.formats.fields import Fields, shown
from thirdeye.weights.formats.quantized.decode.packed_integers import split_bytes
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns, read_patterns
from thirdeye.weights.formats.quantized.quantized_weight import Parts, QuantizedWeight
from thirdeye.weights.formats.safetensors import ShardEntry

if TYPE_CHECKING:
    from torch import Tensor

STATE = "weight.quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
MAX_STATE_BYTES = 1 << 12
MAX_BLOCK = 1 << 20
MAX_SIZE = 1 << 32
STORAGES = ("U8", "BF16", "F16", "F32")  # what the bytes may be called
LARGEST = 127  # what a row's largest number is in eight bits


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Numbers a scale, and scales a scale of scales (0: these are not quantized)."""

    numbers: int
    scales: int
    offset: float  # of the scales


@dataclass(frozen=True, slots=True)
class BitsAndBytes:
    skipped: ModulePatterns

    suffixes: ClassVar[tuple[str, ...]] = (
        *(".weight", ".SCB", ".weight_format", ".weight.absmax", ".weight.quant_map"),
        *(".weight.nested_absmax", ".weight.nested_quant_map"),
        *(f".{STATE}{kind}" for kind in KINDS),
    )
    unused: ClassVar[tuple[str, ...]] = ()

    def weight(self, parts: Parts) -> QuantizedWeight | None:
        if parts.is_plain:
            return None
        if self.skipped.match(parts.module):
            raise parts.skipped_error()
        kind = next((kind for kind in KINDS if f"{STATE}{kind}" in parts), None)
        return _eight_bits(parts) if kind is None else _four_bits(parts, kind)


def _eight_bits(parts: Parts) -> QuantizedWeight:
    weight = parts.get("weight", ("I8",), None, None)
    parts.get("SCB", ("F32",), weight.shape[0])
    if "weight_format" in parts and parts["weight_format"].read_bytes(0, 1) != b"\0":
        raise parts["weight_format"].error("must be 0: other orders than by row are not supported.")
    return QuantizedWeight(
        f"{parts.module}.weight", "bitsandbytes int8", weight.shape, parts.entries, decode_int8
    )


def _four_bits(parts: Parts, kind: str) -> QuantizedWeight:
    state = parts.get(f"{STATE}{kind}", ("U8",), None)
    shape, sizes = _read_state(state)
    weight = parts.get("weight", STORAGES)
    count = prod(shape)
    if shape[1] % 2 or weight.num_bytes * 2 != count:
        raise weight.error(f"must hold {count:,} numbers in half as many bytes, rows of even size.")
    blocks = -(-count // sizes.numbers)
    parts.get("weight.quant_map", ("F32",), 16)
    parts.get("weight.absmax", ("U8" if sizes.scales else "F32",), blocks)
    if sizes.scales:
        parts.get("weight.nested_quant_map", ("F32",), 256)
        parts.get("weight.nested_absmax", ("F32",), -(-blocks // sizes.scales))
    title = f"bitsandbytes {kind} (blocks of {sizes.numbers})"
    needed = {key: entry for key, entry in parts.entries.items() if entry is not state}
    return QuantizedWeight(
        f"{parts.module}.weight", title, shape, needed, partial(decode_four_bits, sizes, shape[1])
    )


def _read_state(entry: ShardEntry) -> tuple[tuple[int, int], BlockSizes]:
    """Raises `ModelFormatError`."""
    if entry.num_bytes > MAX_STATE_BYTES:
        raise entry.error(f"has {entry.num_bytes:,} bytes, the limit is {MAX_STATE_BYTES:,}.")
    try:
        text = entry.read_bytes(0, MAX_STATE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise entry.error("is not valid UTF-8.") from error
    fields = Fields(entry.shard, parse_object(entry.shard, text))
    shape = fields.raw("shape")
    is_matrix = isinstance(shape, list) and len(shape) == 2
    if not (is_matrix and all(type(n) is int and 0 < n < MAX_SIZE for n in shape)):
        raise entry.error(f"'shape' must be two sizes above 0, got {shown(shape)}.")
    numbers = fields.integer("blocksize", high=MAX_BLOCK)
    scales = fields.integer("nested_blocksize", 0, low=0, high=MAX_BLOCK)
    offset = fields.raw("nested_offset", 0.0)
    if type(offset) not in (int, float):
        raise entry.error(f"'nested_offset' must be a number, got {shown(offset)}.")
    return (shape[0], shape[1]), BlockSizes(numbers, scales, float(offset))


def decode_int8(parts: "Mapping[str, Tensor]", rows: slice) -> "Tensor":
    return parts["weight"][rows].float() * (parts["SCB"][rows, None] / LARGEST)


def decode_four_bits(
    sizes: BlockSizes, width: int, parts: "Mapping[str, Tensor]", rows: slice
) -> "Tensor":
    """Rows [n, in] of the matrix."""
    import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

    start, stop = rows.start * width, rows.stop * width
    packed = parts["weight"].reshape(-1).view(torch.uint8)[start // 2 : stop // 2]
    halves = split_bytes(packed[:, None], 4).flip(1)
    numbers = parts["weight.quant_map"][halves.int()].reshape(-1)
    first, last = start // sizes.numbers, -(-stop // sizes.numbers)
    scales = _scales(sizes, parts, first, last).repeat_interleave(sizes.numbers)
    numbers *= scales[start - first * sizes.numbers :][: stop - start]
    return numbers.reshape(-1, width)


def _scales(sizes: BlockSizes, parts: "Mapping[str, Tensor]", first: int, last: int) -> "Tensor":
    """Of these blocks, float32."""
    import torch  # noqa: PLC0415

    absmax = parts["weight.absmax"][first:last]
    if not sizes.scales:
        return absmax
    group = torch.arange(first, last) // sizes.scales
    values = parts["weight.nested_quant_map"][absmax.int()]
    return values * parts["weight.nested_absmax"][group] + sizes.offset


def read_bitsandbytes(fields: Fields) -> BitsAndBytes:
    return BitsAndBytes(read_patterns(fields, "llm_int8_skip_modules"))
