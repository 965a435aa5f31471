"""What is on this machine, and how it goes again: `thirdeye list` and `thirdeye rm`.

Only what lies in our own models folder is ever deleted: an installed distribution belongs to pip, a
snapshot in the hub's cache to huggingface_hub.
"""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from thirdeye.weights.catalog import CATALOG, CatalogModel
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.formats.gguf.file_names import part_of, quantization_of, without_part
from thirdeye.weights.hub.hub_store import paths_of, stored_hub_models
from thirdeye.weights.paths import hub_directory, models_directory
from thirdeye.weights.resolve import damage_of, find_catalog_model
from thirdeye.weights.suggest import close_names, did_you_mean

WEIGHTS = ("*.safetensors", "*.gguf")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A line of `thirdeye list`. `path` is None for a catalog model that is not here, or whose file
    is of another size; `format` is what the name says, for the file itself is not read."""

    name: str
    format: str
    size_bytes: int
    path: Path | None
    is_damaged: bool = False


def list_models() -> list[ModelEntry]:
    """The catalog, then what else is in the models folder, then what was fetched from the hub, by
    us and by others. Raises OSError for a folder that cannot be looked into."""
    entries = [_of_catalog(model) for model in CATALOG.values()]
    return entries + _in_models_folder() + _from_hub() + _hub_snapshots()


def _of_catalog(model: CatalogModel) -> ModelEntry:
    path = find_catalog_model(model)
    is_damaged = path is None and bool(damage_of(model))
    kind = _gguf_format(Path(model.file_name))
    return ModelEntry(model.name, kind, model.member_size, path, is_damaged)


def files_to_remove(name: str) -> list[Path]:
    """Files, or the one folder, of our models folder that `rm` of this name deletes.

    Raises `ModelNotFound` for what is not there, and for what is not ours to delete.
    """
    folder = models_directory()
    if name in CATALOG:
        mine = folder / CATALOG[name].file_name
        if mine.is_file():
            return [mine]
    for model in stored_hub_models():
        if name == model.name:
            return paths_of(model)
    entries = [entry for entry in list_models() if entry.path is not None]
    found = next((entry.path for entry in entries if entry.name == name), None)
    if found is None:
        raise ModelNotFound(
            f"there is no model {name!r} to remove; 'thirdeye list' shows what is here."
            f"{did_you_mean(close_names(name, [entry.name for entry in entries]))}"
        )
    if found.parent != folder:
        owner = "hf cache" if found.is_relative_to(hub_directory()) else "pip uninstall"
        raise ModelNotFound(
            f"{found} is not in {folder}, the one folder this command deletes from: use '{owner}'."
        )
    return _parts(found)


def remove(paths: list[Path]) -> None:
    """Delete each; of a link, the link alone. Raises OSError."""
    for path in paths:
        if not path.is_relative_to(models_directory()) or ".." in path.parts:
            raise OSError(errno.EPERM, f"not in {models_directory()}", str(path))
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def size_of(path: Path) -> int:
    """Bytes of a file with all its parts, or of a folder's weights."""
    if path.is_dir():
        return sum(file.stat().st_size for end in WEIGHTS for file in path.rglob(end))
    return sum(part.stat().st_size for part in _parts(path))


def _in_models_folder() -> list[ModelEntry]:
    known = {model.file_name for model in CATALOG.values()}
    entries = []
    for path in sorted(models_directory().glob("*")):
        if path.suffix == ".gguf" and path.name not in known and part_of(path)[0] == 1:
            name = without_part(path)
            entries.append(ModelEntry(name, _gguf_format(path), size_of(path), path))
        elif (path / "config.json").is_file():
            entries.append(ModelEntry(path.name, "safetensors", size_of(path), path))
    return entries


def _from_hub() -> list[ModelEntry]:
    entries = []
    for model in stored_hub_models():
        is_file = model.path.suffix == ".gguf"
        kind = _gguf_format(model.path) if is_file else model.label
        entries.append(ModelEntry(model.name, kind, model.size, model.path))
    return entries


def _hub_snapshots() -> list[ModelEntry]:
    entries = []
    for path in sorted(hub_directory().glob("models--*/snapshots/*")):
        is_gguf = any(path.rglob("*.gguf"))
        if is_gguf or any(path.glob("*.safetensors")):
            name = path.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
            kind = "GGUF" if is_gguf else "safetensors"
            entries.append(ModelEntry(name, kind, size_of(path), path))
    return entries


def _parts(path: Path) -> list[Path]:
    """The file, with the others of a split one that are there."""
    _, count = part_of(path)
    if count == 1:
        return [path]
    return sorted(
        part
        for part in path.parent.iterdir()
        if part.suffix == ".gguf"
        and (without_part(part), part_of(part)[1]) == (without_part(path), count)
    )


def _gguf_format(path: Path) -> str:
    quantization = quantization_of(path)
    return f"GGUF {quantization}" if quantization else "GGUF"
