"""A GGUF file, or several that are one model: `NAME-00001-of-00003.gguf` and its sisters.

The first part holds the metadata and says how many parts and tensors there are; each part has a
table of its own tensors.
"""

import re
from dataclasses import replace
from pathlib import Path

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile, read_gguf

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")
MAX_PARTS = 1 << 12
MAX_TENSORS = 1 << 16


def open_gguf(path: Path) -> GGUFFile:
    """The file with all its parts. Raises `ModelFormatError`; reads no tensor data."""
    first = read_gguf(path)
    fields = Fields(path, first.metadata)
    count = fields.integer("split.count", 1, low=0, high=MAX_PARTS)
    if count <= 1:
        return first
    number = fields.integer("split.no", 0, low=0, high=MAX_PARTS)
    name = PART.fullmatch(path.stem)
    if name is None or (int(name["number"]), int(name["count"])) != (number + 1, count):
        raise fields.error(
            "split.count",
            f"this is part {number + 1} of {count}; its name must end in "
            f"'-{number + 1:05}-of-{count:05}.gguf', or the other parts cannot be found.",
        )
    if number != 0:
        raise fields.error(
            "split.no", f"this is part {number + 1}: name the first, {_part(path, name, 1).name}."
        )
    parts = tuple(read_gguf(_part(path, name, i)) for i in range(2, count + 1))
    return _join(first, parts, fields)


def without_number(stem: str) -> str:
    """What all parts are called."""
    name = PART.fullmatch(stem)
    return name["stem"] if name else stem


def _part(path: Path, name: re.Match[str], number: int) -> Path:
    return path.with_name(f"{name['stem']}-{number:05}-of-{name['count']}.gguf")


def _join(first: GGUFFile, parts: tuple[GGUFFile, ...], fields: Fields) -> GGUFFile:
    tensors = dict(first.tensors)
    for part in parts:
        if twice := tensors.keys() & part.tensors.keys():
            raise ModelFormatError(part.path, "stands in another part too.", field=min(twice))
        tensors |= part.tensors
    told = fields.integer("split.tensors.count", len(tensors), high=MAX_TENSORS)
    if told != len(tensors):
        raise fields.error(
            "split.tensors.count", f"says {told:,} tensors, the parts hold {len(tensors):,}."
        )
    return replace(first, tensors=tensors, parts=parts)
