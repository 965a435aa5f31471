"""A checkpoint's directory: files are read by name, within a size limit, and never from outside of
it.

A name may come from the checkpoint itself (`model.safetensors.index.json`), so it is not trusted:
`../`, an absolute path or a symbolic link that leads out is refused. One exception is the Hugging
Face hub's cache, where a snapshot is a directory of links into the repository's own `blobs`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.other_formats import IS_POINTER, POINTER, no_checkpoint

MAX_JSON_BYTES = 1 << 26  # the largest tokenizer.json files have 35 MB
MAX_PARSED_BYTES = 192 << 20  # they take about 140 MB
BYTE_ORDER_MARK = "\ufeff"  # which editors on Windows put before a JSON file
PARSED_BYTES = {b"{": 184, b"[": 64, b":": 120, b",": 40}  # of CPython's objects, measured


@dataclass(frozen=True, slots=True)
class Directory:
    path: Path

    def find(self, name: str) -> Path | None:
        """The file's path, or None if there is no such file."""
        path = self.path / name
        try:
            is_file, is_inside = path.is_file(), self._is_inside(path)
        # Too long, a NUL in it, a loop of links.
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelFormatError(self.path, f"the file name {name!r:.100}: {error}.") from error
        if not is_inside:
            raise ModelFormatError(
                self.path, f"the file name {name!r:.100} leads out of the directory."
            )
        return path if is_file else None

    def text(self, name: str, max_bytes: int = MAX_JSON_BYTES) -> str | None:
        """The file's text, or None if there is no such file."""
        path = self.find(name)
        if path is None:
            return None
        if (size := path.stat().st_size) > max_bytes:
            raise ModelFormatError(path, f"has {size:,} bytes, the limit is {max_bytes:,}.")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFormatError(path, f"cannot be read: {error}.") from error

    def fields(self, name: str, max_bytes: int = MAX_JSON_BYTES) -> Fields | None:
        """The file's JSON object, or None if there is no such file."""
        text, path = self.text(name, max_bytes), self.path / name
        if text is None:
            return None
        return Fields(path, parse_object(path, text.removeprefix(BYTE_ORDER_MARK)))

    def config(self) -> Fields:
        """Of config.json, which makes a directory a checkpoint."""
        fields = self.fields("config.json")
        if fields is None:
            raise no_checkpoint(self.path)
        return fields

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.path.resolve()) or self._is_hub_blob(path)

    def _is_hub_blob(self, path: Path) -> bool:
        """`models--org--name/snapshots/REVISION/file` -> `models--org--name/blobs/...`"""
        snapshot = self.path.resolve()
        in_cache = snapshot.parent.name == "snapshots" and snapshot.parent.parent.name.startswith(
            "models--"
        )
        is_inside = path.parent.resolve().is_relative_to(snapshot)
        blobs = snapshot.parent.parent / "blobs"
        return in_cache and is_inside and path.resolve().is_relative_to(blobs)


def parse_object(path: Path, text: str) -> dict[str, Any]:
    """Strict JSON, but for Infinity, which must be an object. Raises `ModelFormatError`."""
    if text.startswith(POINTER.decode()):
        raise ModelFormatError(path, IS_POINTER)
    check_cost(path, text)
    try:
        value = json.loads(text, parse_constant=_constant)
    except RecursionError:
        raise ModelFormatError(path, "is nested too deeply.") from None
    except ValueError as error:
        raise ModelFormatError(path, f"is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ModelFormatError(path, "must be a JSON object.")
    return value


def check_cost(path: Path, text: str | bytes, limit: int = MAX_PARSED_BYTES) -> None:
    """Before JSON is parsed: a few megabytes of `[],` are gigabytes of objects."""
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    cost = len(raw) + sum(raw.count(sign) * each for sign, each in PARSED_BYTES.items())
    if cost > limit:
        raise ModelFormatError(
            path,
            f"would take about {cost:,} bytes to read, for it is many small values; the limit is "
            f"{limit:,}.",
        )


def _constant(name: str) -> dict[str, str]:
    """Python writes what is no JSON, and older configs have a limit of steps that is none
    (Mamba-2): it is read as transformers has written it since, which is no number."""
    if name != "Infinity":
        raise ValueError(f"{name} is not JSON")
    return {"__float__": name}
