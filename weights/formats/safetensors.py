"""Tensors of safetensors files: what is where, from the headers, and one tensor's data at a time.

The `safetensors` package checks each header in Rust; what it refuses becomes a `ModelFormatError`.
Data is read into memory of its own, not mapped: of a file larger than memory no more is ever
resident than the tensor that was asked for.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import check_cost
from thirdeye.weights.formats.other_formats import IS_POINTER, POINTER

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 1 << 25  # 100,000 tensors have 15 MB
MAX_PARSED_HEADER = 1 << 27  # as objects; twice more are made by the package
COMPARED_AT_ONCE = 1 << 24
FLOATS = ("F32", "F16", "BF16", "F64")
DTYPES = {  # the format's name -> torch's, and bytes of a number
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
}


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A tensor in a file: `start` counts from the beginning of the file."""

    name: str
    shard: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int

    @property
    def num_numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Of a kind that is read without more to know."""
        return self.dtype in FLOATS

    def error(self, problem: str) -> ModelFormatError:
        return ModelFormatError(self.shard, problem, field=self.name)

    def check_dtype(self, supported: tuple[str, ...] = FLOATS) -> None:
        if self.dtype not in supported:
            raise self.error(
                f"dtype {self.dtype} is not supported; supported are {', '.join(supported)}."
            )

    def read(self) -> "Tensor":
        """All of it, in its stored dtype, which must be one of `DTYPES`. Imports torch."""
        import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

        dtype = getattr(torch, DTYPES[self.dtype][0])
        if not self.num_bytes:
            return torch.empty(self.shape, dtype=dtype)
        raw = np.empty(self.num_bytes, np.uint8)  # in huge pages, which numpy asks for
        self._read_into(raw.data, 0)
        return torch.from_numpy(raw).view(dtype).reshape(self.shape)

    def read_bytes(self, start: int, size: int) -> bytes:
        """Some of its bytes, as they lie; fewer at its end."""
        buffer = bytearray(max(min(size, self.num_bytes - start), 0))
        self._read_into(memoryview(buffer), start)
        return bytes(buffer)

    def _read_into(self, buffer: memoryview, start: int) -> None:
        try:
            with self.shard.open("rb") as file:
                file.seek(self.start + start)
                if file.readinto(buffer) != len(buffer):
                    raise self.error("the file has become shorter.")
        except OSError as error:
            raise ModelFormatError(self.shard, f"cannot be read: {error.strerror}.") from error


def list_tensors(
    shards: list[Path], max_header_bytes: int = MAX_HEADER_BYTES
) -> dict[str, ShardEntry]:
    """Every tensor's name and place, from the headers alone; no name appears twice."""
    tensors: dict[str, ShardEntry] = {}
    for shard in shards:
        for entry in _entries(shard, max_header_bytes):
            if entry.name in tensors:
                raise entry.error(f"the tensor is in {tensors[entry.name].shard.name} too.")
            tensors[entry.name] = entry
    return tensors


def are_equal(one: ShardEntry, other: ShardEntry) -> bool:
    """Whether two tensors are the same, bit for bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return all(
        one.read_bytes(start, COMPARED_AT_ONCE) == other.read_bytes(start, COMPARED_AT_ONCE)
        for start in range(0, one.num_bytes, COMPARED_AT_ONCE)
    )


def _entries(shard: Path, max_header_bytes: int) -> list[ShardEntry]:
    try:
        with shard.open("rb") as file:
            begin = file.read(len(POINTER))
            if begin == POINTER:
                raise ModelFormatError(shard, IS_POINTER)
            file.seek(8)
            size = int.from_bytes(begin[:8], "little")
            if size > max_header_bytes:
                raise ModelFormatError(
                    shard, f"says {size:,} bytes of header, the limit is {max_header_bytes:,}."
                )
            raw = file.read(size)
        check_cost(shard, raw, MAX_PARSED_HEADER)
        with safe_open(shard, framework="numpy"):  # checks it
            header: Mapping[str, dict[str, list[int]]] = json.loads(raw)
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(shard, f"is not a readable safetensors file: {error}.") from error
    entries = []
    for name, tensor in header.items():
        if name != "__metadata__":
            dtype, shape = str(tensor["dtype"]), tuple(tensor["shape"])
            start, stop = tensor["data_offsets"]
            entries.append(ShardEntry(name, shard, dtype, shape, 8 + size + start, stop - start))
    for entry in entries:
        known = DTYPES.get(entry.dtype)
        assert known is None or entry.num_bytes == math.prod(entry.shape) * known[1]
    return sorted(entries, key=lambda entry: entry.start)
