"""Tensors of a directory's safetensors files, sharded or not, one at a time.

The `safetensors` package checks each header in Rust; what it refuses becomes a `ModelFormatError`.
Pickled checkpoints (`.bin`, `.pt`) are never opened: loading one can run its code.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

INDEX = "model.safetensors.index.json"
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class ShardEntry:
    shard: Path
    dtype: str
    num_bytes: int


def find_shards(directory: Directory) -> list[Path]:
    """The files that hold the tensors: those of the index, else model.safetensors, else all there
    are."""
    index = directory.fields(INDEX)
    if index is not None:
        return [_shard(directory, index, name) for name in _shard_names(index)]
    if single := directory.find("model.safetensors"):
        return [single]
    shards = [directory.find(path.name) for path in sorted(directory.path.glob("*.safetensors"))]
    if not shards:
        raise ModelFormatError(
            directory.path,
            "there are no .safetensors files. Pickled checkpoints (.bin, .pt) are not supported: "
            "convert them with save_pretrained(..., safe_serialization=True).",
        )
    return [shard for shard in shards if shard is not None]


def list_tensors(shards: list[Path]) -> dict[str, ShardEntry]:
    """Every tensor's name, shard and size, from the headers alone; no name appears twice."""
    tensors: dict[str, ShardEntry] = {}
    for shard in shards:
        with _opened(shard, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                if name in tensors:
                    raise ModelFormatError(
                        shard, f"the tensor is in {tensors[name].shard.name} too.", field=name
                    )
                header = file.get_slice(name)
                dtype, shape = header.get_dtype(), header.get_shape()
                tensors[name] = ShardEntry(
                    shard, dtype, math.prod(shape) * DTYPE_BYTES.get(dtype, 1)
                )
    return tensors


def check_index(directory: Directory, tensors: dict[str, ShardEntry]) -> None:
    """The index, if there is one, names only tensors that its shards hold."""
    index = directory.fields(INDEX)
    missing = sorted(_weight_map(index).keys() - tensors.keys()) if index else []
    if missing:
        raise ModelFormatError(
            directory.path / INDEX, "is in the index, but in no shard.", field=missing[0]
        )


def check_dtypes(tensors: dict[str, ShardEntry]) -> None:
    """Before anything is loaded: each is stored as one that we read."""
    for name, stored in tensors.items():
        if stored.dtype not in DTYPE_BYTES:
            raise ModelFormatError(
                stored.shard,
                f"dtype {stored.dtype} is not supported; supported are {', '.join(DTYPE_BYTES)}.",
                field=name,
            )


def read_tensors(tensors: dict[str, ShardEntry]) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors themselves in their stored dtype, shard by shard. Imports torch."""
    for shard in dict.fromkeys(stored.shard for stored in tensors.values()):
        with _opened(shard, "pt") as file:
            for name, stored in tensors.items():
                if stored.shard == shard:
                    yield name, _read(file, shard, name)


def are_equal(tensors: dict[str, ShardEntry], name: str, other: str) -> bool:
    """Whether two tensors are the same, bit for bit."""
    (dtype, shape, data), (other_dtype, other_shape, other_data) = (
        _bytes_of(tensors[each].shard, each) for each in (name, other)
    )
    return (dtype, shape) == (other_dtype, other_shape) and np.array_equal(data, other_data)


def _bytes_of(shard: Path, name: str) -> tuple[str, list[int], "npt.NDArray[np.uint8]"]:
    """Of a file whose header was checked: dtype, shape, and the bytes as they lie there."""
    with shard.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
    start, stop = entry["data_offsets"]
    data = np.memmap(shard, dtype=np.uint8, mode="r", offset=8 + size + start, shape=stop - start)
    return entry["dtype"], entry["shape"], data


def _read(file: Any, shard: Path, name: str) -> "Tensor":
    try:
        tensor: Tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise ModelFormatError(shard, f"{error}.", field=name) from error
    return tensor


@contextmanager
def _opened(shard: Path, framework: str) -> Iterator[Any]:
    try:
        file = safe_open(shard, framework=framework)
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(shard, f"is not a readable safetensors file: {error}.") from error
    with file:
        yield file


def _weight_map(index: Fields) -> dict[str, str]:
    value = index.raw("weight_map")
    if not (isinstance(value, dict) and all(isinstance(name, str) for name in value.values())):
        raise index.error("weight_map", "must map tensor names to file names.")
    return value


def _shard_names(index: Fields) -> list[str]:
    return sorted(set(_weight_map(index).values()))


def _shard(directory: Directory, index: Fields, name: str) -> Path:
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise index.error(
            "weight_map", f"{name!r:.100} is not the plain name of a .safetensors file."
        )
    if (shard := directory.find(name)) is None:
        raise index.error("weight_map", f"the file {name!r:.100} is missing.")
    return shard
