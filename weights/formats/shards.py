"""Which safetensors files of a directory hold a model's tensors: the one of the plain name, as in
transformers, else those of the index, or all.

Pickled checkpoints (`.bin`, `.pt`) are never opened: loading one can run its code.
"""

import logging
from collections.abc import Container
from pathlib import Path

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.other_formats import CONVERT

logger = logging.getLogger(__name__)
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def find_shards(directory: Directory) -> list[Path]:
    """The files that hold the tensors: model.safetensors, else those of the index, else all there
    are."""
    index, single = _index(directory), directory.find(SINGLE)
    if index is not None:
        return [_shard(directory, index, name) for name in _shard_names(index)]
    if single is not None:
        if directory.find(INDEX) is not None:
            text = "%s: '%s' is read, and not the files of '%s'"
            logger.warning(text, directory.path, SINGLE, INDEX)
        return [single]
    shards = [
        directory.find(path.name) for path in sorted(filter(_is_weights, directory.path.glob("*")))
    ]
    if not shards:
        raise ModelFormatError(
            directory.path,
            f"there are no .safetensors files. {CONVERT}",
        )
    return [shard for shard in shards if shard is not None]


def _is_weights(path: Path) -> bool:
    """Neither a hidden file, as other systems leave them beside each, nor an adapter's."""
    is_other = path.name.startswith((".", "adapter_model"))
    return path.suffix.lower() == ".safetensors" and not is_other


def check_index(directory: Directory, names: Container[str]) -> None:
    """The index, if there is one, names only tensors that its shards hold."""
    index = _index(directory)
    missing = sorted(name for name in _weight_map(index) if name not in names) if index else []
    if missing:
        raise ModelFormatError(
            directory.path / INDEX, "is in the index, but in no shard.", field=missing[0]
        )


def _index(directory: Directory) -> Fields | None:
    """None where there is none, or it is of other files than the one that was saved since."""
    index = directory.fields(INDEX)
    if index is None or directory.find(SINGLE) is None or SINGLE in _shard_names(index):
        return index
    return None


def _weight_map(index: Fields) -> dict[str, str]:
    value = index.raw("weight_map")
    if not (isinstance(value, dict) and all(isinstance(name, str) for name in value.values())):
        raise index.error("weight_map", "must map tensor names to file names.")
    if not value:
        raise index.error(
            "weight_map",
            "is empty. Fetch the index again; without one all .safetensors files here are read.",
        )
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
