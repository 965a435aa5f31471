"""A strict reader of GGUF files: header, metadata and tensor table at once, tensor bytes on demand.

The file is hostile until proven otherwise: `cursor.py` reads no byte that is not there. One
exception type, `ModelFormatError`, with the field and the offset. Knows nothing about models,
tokenizers or torch.

    magic, version, counts | key-value pairs | tensor table | padding | tensor data
"""

import itertools
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf import format as gguf
from thirdeye.weights.formats.gguf.cursor import Cursor
from thirdeye.weights.formats.gguf.format import TensorType
from thirdeye.weights.formats.other_formats import IS_POINTER, POINTER, first_bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `shape` is row-major: the reverse of the order in the file."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int  # from the start of the file
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """An open file: metadata is read, tensor data is mapped. `data_offset` ends the description."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    data_offset: int
    data: mmap.mmap
    parts: tuple["GGUFFile", ...] = ()  # further files whose tensors are among `tensors`

    def tensor_bytes(self, name: str) -> memoryview:
        """The stored bytes of one tensor, not copied; they were checked to be inside the file."""
        for part in self.parts:
            if name in part.tensors:
                return part.tensor_bytes(name)
        info = self.tensors[name]
        return memoryview(self.data)[info.offset : info.offset + info.num_bytes]

    def release(self) -> None:
        """Give back the memory of what was read; what is read again comes from the file again."""
        for file in (self, *self.parts):
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
                file.data.madvise(mmap.MADV_DONTNEED)


def read_gguf(path: Path) -> GGUFFile:
    """Open and check a file. Raises `ModelFormatError`; reads no tensor data."""
    cursor = Cursor(path, _map(path))
    num_tensors, num_metadata = _read_header(cursor)
    metadata = _read_metadata(cursor, num_metadata)
    alignment = _alignment(cursor, metadata)
    entries = [_read_tensor_entry(cursor) for _ in range(num_tensors)]
    data_offset = -(-cursor.position // alignment) * alignment
    tensors = _place(cursor, entries, data_offset, alignment)
    return GGUFFile(path, metadata, tensors, data_offset, cursor.data)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelFormatError(path, f"cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ModelFormatError(path, "the file is empty.") from error


def _read_header(cursor: Cursor) -> tuple[int, int]:
    if cursor.take(4) != gguf.MAGIC:
        if first_bytes(cursor.path).startswith(POINTER):
            raise ModelFormatError(cursor.path, IS_POINTER)
        raise ModelFormatError(cursor.path, "is not a GGUF file (wrong magic).", offset=0)
    version = cursor.u32()
    if int.from_bytes(version.to_bytes(4, "big"), "little") in gguf.VERSIONS:
        raise cursor.error("big-endian GGUF files are not supported.")
    if version not in gguf.VERSIONS:
        raise cursor.error(f"GGUF version {version} is not supported; versions 2 and 3 are.")
    num_tensors, num_metadata = cursor.u64(), cursor.u64()
    if num_tensors > gguf.MAX_TENSORS:
        raise cursor.error(f"says {num_tensors:,} tensors, the limit is {gguf.MAX_TENSORS:,}.")
    if num_metadata > gguf.MAX_METADATA:
        raise cursor.error(
            f"says {num_metadata:,} metadata keys, the limit is {gguf.MAX_METADATA:,}."
        )
    return num_tensors, num_metadata


def _read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        cursor.field = f"key {index}"
        key = cursor.string(gguf.MAX_NAME_BYTES)
        cursor.field = key
        if key in metadata:
            raise cursor.error("the key appears twice.")
        kind = cursor.u32()
        metadata[key] = cursor.array() if kind == gguf.ARRAY else cursor.scalar(kind)
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    cursor.field = "general.alignment"
    value = metadata.get("general.alignment", gguf.DEFAULT_ALIGNMENT)
    is_power_of_two = type(value) is int and value > 0 and value & (value - 1) == 0
    if not is_power_of_two or value > gguf.MAX_ALIGNMENT:
        limit = gguf.MAX_ALIGNMENT
        raise cursor.error(f"must be a power of two between 1 and {limit:,}, got {value!r:.40}.")
    return int(value)


def _read_tensor_entry(cursor: Cursor) -> TensorInfo:
    """One row of the tensor table; its offset still counts from the start of the tensor data."""
    cursor.field = "tensor table"
    name = cursor.string(gguf.MAX_NAME_BYTES)
    cursor.field = name
    num_dims = cursor.u32()
    if not 1 <= num_dims <= gguf.MAX_DIMS:
        raise cursor.error(f"must have 1 to {gguf.MAX_DIMS} dimensions, got {num_dims:,}.")
    dims = [cursor.u64() for _ in range(num_dims)]
    if min(dims) < 1:
        raise cursor.error("has a dimension of size 0.")
    tensor_type = _tensor_type(cursor, cursor.u32())
    if dims[0] % tensor_type.block_size:
        raise cursor.error(
            f"a row of {tensor_type.name} must be a multiple of {tensor_type.block_size}, got "
            f"{dims[0]:,}."
        )
    num_bytes = math.prod(dims) // tensor_type.block_size * tensor_type.block_bytes
    return TensorInfo(name, tuple(reversed(dims)), tensor_type, cursor.u64(), num_bytes)


def _tensor_type(cursor: Cursor, number: int) -> TensorType:
    if number in gguf.TENSOR_TYPES:
        return gguf.TENSOR_TYPES[number]
    name = gguf.OTHER_TENSOR_TYPES.get(number, f"type {number}")
    supported = ", ".join(known.name for known in gguf.TENSOR_TYPES.values())
    raise cursor.error(f"is stored as {name}, which is not supported; supported are {supported}.")


def _place(
    cursor: Cursor, entries: list[TensorInfo], data_offset: int, alignment: int
) -> dict[str, TensorInfo]:
    """Absolute offsets, each tensor aligned, inside the file and clear of the others."""
    tensors: dict[str, TensorInfo] = {}
    for entry in entries:
        start = data_offset + entry.offset
        cursor.field, cursor.position = entry.name, start
        if entry.name in tensors:
            raise cursor.error("the tensor appears twice.")
        if entry.offset % alignment:
            raise cursor.error(f"does not start at a multiple of {alignment}.")
        if start + entry.num_bytes > cursor.size:
            raise cursor.error(
                f"its {entry.num_bytes:,} bytes reach past the end of the file ({cursor.size:,})."
            )
        tensors[entry.name] = TensorInfo(
            entry.name, entry.shape, entry.type, start, entry.num_bytes
        )
    for before, after in _neighbours(tensors):
        if before.offset + before.num_bytes > after.offset:
            cursor.field, cursor.position = after.name, after.offset
            raise cursor.error(f"overlaps the tensor '{before.name}'.")
    return tensors


def _neighbours(tensors: dict[str, TensorInfo]) -> Iterator[tuple[TensorInfo, TensorInfo]]:
    ordered = sorted(tensors.values(), key=lambda info: info.offset)
    return itertools.pairwise(ordered)
