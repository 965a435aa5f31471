"""A position in a GGUF file that moves only over bytes that are there.

Sizes are Python integers, which do not wrap; each is compared with the bytes that are left before
anything is read or allocated by it.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf import format as gguf


class Cursor:
    """Reads one value after another. `field` is what an error names."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = 0
        self.field = "header"
        self.strings_left = gguf.MAX_STRINGS

    def error(self, problem: str) -> ModelFormatError:
        return ModelFormatError(self.path, problem, field=self.field, offset=self.position)

    def take(self, num_bytes: int) -> bytes:
        start, end = self.position, self.position + num_bytes
        if end > self.size:
            raise self.error(
                f"needs {num_bytes:,} bytes, {self.size - start:,} are left in the file."
            )
        self._check_description(end)
        self.position = end
        return self.data[start:end]

    def _check_description(self, end: int) -> None:
        if end > gguf.MAX_DESCRIPTION_BYTES:
            raise self.error(
                f"ends at byte {end:,}; what comes before the tensors may have at most "
                f"{gguf.MAX_DESCRIPTION_BYTES:,}."
            )

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def string(self, limit: int | None = None) -> str:
        length = self.u64()
        if limit is not None and length > limit:
            raise self.error(f"a name may have at most {limit:,} bytes, this one says {length:,}.")
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error("is not valid UTF-8.") from error

    def scalar(self, kind: int) -> int | float | bool | str:
        if kind == gguf.STRING:
            return self.string()
        if kind == gguf.BOOL:
            return bool(self._booleans(self.take(1))[0])
        if kind not in gguf.SCALARS:
            raise self.error(f"unknown value type {kind}.")
        dtype = np.dtype(gguf.SCALARS[kind])
        value = np.frombuffer(self.take(dtype.itemsize), dtype)[0]
        if kind == gguf.FLOAT32:
            return float(str(value))  # the shortest decimal: 1e-05, not 9.999999747378752e-06
        number: int | float = value.item()
        return number

    def array(self) -> Any:
        """Numbers and booleans as a numpy array, strings as a list; no arrays of arrays."""
        kind, length = self.u32(), self.u64()
        if kind == gguf.STRING:
            return self._strings(length)
        if kind == gguf.BOOL:
            return self._booleans(self.take(length))
        if kind == gguf.ARRAY:
            raise self.error("arrays of arrays are not supported.")
        if kind not in gguf.SCALARS:
            raise self.error(f"unknown element type {kind}.")
        dtype = np.dtype(gguf.SCALARS[kind])
        return np.frombuffer(self.take(length * dtype.itemsize), dtype)

    def _strings(self, length: int) -> list[str]:
        if length > (self.size - self.position) // 8:
            raise self.error(f"an array of {length:,} strings does not fit into the file.")
        self.strings_left -= length
        if self.strings_left < 0:
            raise self.error(f"more than {gguf.MAX_STRINGS:,} strings in the file's arrays.")
        # The same as [self.string() for _ in range(length)], with the attribute lookups taken out:
        # a vocabulary and its merges are 100,000 strings or more.
        data, position, size, length_of = (
            self.data,
            self.position,
            self.size,
            struct.Struct("<Q").unpack_from,
        )
        strings = []
        for _ in range(length):
            start = position + 8
            if start > size or (position := start + length_of(data, start - 8)[0]) > size:
                self.position = start - 8
                raise self.error("a string reaches past the end of the file.")
            if position > gguf.MAX_DESCRIPTION_BYTES:
                self._check_description(position)
            try:
                strings.append(data[start:position].decode())
            except UnicodeDecodeError as error:
                self.position = start
                raise self.error("is not valid UTF-8.") from error
        self.position = position
        return strings

    def _booleans(self, raw: bytes) -> NDArray[np.bool_]:
        values = np.frombuffer(raw, np.uint8)
        if values.size and values.max() > 1:
            raise self.error("a boolean must be 0 or 1.")
        return values.view(np.bool_)
