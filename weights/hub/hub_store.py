"""What was fetched from the hub: a folder a repository and revision, found without a network.

models/hub/ORG--NAME[@REVISION]/   the files, under the repository's own paths
                      hub.json     the commit, and size and hash of each file that is whole
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec

from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.hub.chosen_files import (
    ChosenFiles,
    RepositoryFile,
    choose_files,
    gguf_models,
    safetensors_model,
    stays_inside,
)
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.paths import hub_directory, models_directory
from thirdeye.weights.storage import put_in_place, read_file

RECORD = "hub.json"
MAX_RECORD_BYTES = 64 << 20  # a repository of 100,000 files has some 20 MB
_SHA256, _SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


class HubRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`files` by their paths."""

    repository: str
    revision: str | None
    commit: str
    files: dict[str, RepositoryFile]


@dataclass(frozen=True, slots=True)
class StoredHubModel:
    """One that is here: what to type for it, its files, and the path to open."""

    name: str
    label: str
    folder: Path
    files: tuple[RepositoryFile, ...]
    path: Path

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def folder_of(name: HubName) -> Path:
    at = f"@{quote(name.revision, safe='')}" if name.revision else ""
    return models_directory() / "hub" / f"{name.repository.replace('/', '--')}{at}"


def read_record(folder: Path) -> HubRecord | None:
    """None if there is none, or if it is damaged: then nothing is known to be whole. One that names
    anything outside its folder was not written by us."""
    try:
        raw = read_file(folder / RECORD, MAX_RECORD_BYTES)
        record = msgspec.json.decode(raw, type=HubRecord)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    named = record.files.items()
    is_ours = all(path == file.path and stays_inside(path) for path, file in named)
    return record if is_ours else None


def write_record(folder: Path, record: HubRecord) -> None:
    """Raises OSError."""
    new = folder / f".{RECORD}"
    new.unlink(missing_ok=True)  # a link of this name would be written through
    new.write_bytes(msgspec.json.encode(record))
    put_in_place(new, folder / RECORD)


def find_hub_model(name: HubName) -> Path | None:
    """What to open: ours, or the snapshot that another program has fetched into the hub's cache."""
    found = files_of(name)
    return _path(*found) if found is not None else None


def files_of(name: HubName) -> tuple[Path, ChosenFiles] | None:
    """The folder that `find_hub_model` opens, and the model's files in it."""
    folder = folder_of(name)
    record = read_record(folder)
    if record is not None and (chosen := _choose(_present(folder, record), name)):
        return folder, chosen
    snapshot = _snapshot(name)
    chosen = _choose(_files_in(snapshot), name) if snapshot is not None else None
    return (snapshot, chosen) if snapshot is not None and chosen is not None else None


def stored_hub_models() -> list[StoredHubModel]:
    """Each that is whole, and each folder of which nothing is: its pull was interrupted."""
    found: list[StoredHubModel] = []
    for folder in sorted(models_directory().glob("hub/*")):
        record = read_record(folder)
        models = list(_models_in(folder, record)) if record is not None else []
        found += models or [_unfinished(folder)]
    return found


def paths_of(model: StoredHubModel) -> list[Path]:
    """What goes with it: its files, or the whole folder if no other model is in it."""
    record = read_record(model.folder)
    others = _present(model.folder, record) if record is not None else []
    if all(file in model.files for file in others):
        return [model.folder]
    return [model.folder / file.path for file in model.files]


def _unfinished(folder: Path) -> StoredHubModel:
    name = folder.name.replace("--", "/", 1)
    files = tuple(_files_in(folder))
    return StoredHubModel(name, "unfinished", folder, files, folder)


def _choose(files: list[RepositoryFile], name: HubName) -> ChosenFiles | None:
    try:
        return choose_files(files, name)
    except ModelNotFound:
        return None


def _path(folder: Path, chosen: ChosenFiles) -> Path:
    return folder / chosen.entry if chosen.entry else folder


def _models_in(folder: Path, record: HubRecord) -> Iterator[StoredHubModel]:
    files = _present(folder, record)
    at = f"@{record.revision}" if record.revision else ""
    shards = safetensors_model(files)
    for model in ([shards] if shards else []) + gguf_models(files):
        name = f"{record.repository}{f':{model.label}' if model.entry else ''}{at}"
        yield StoredHubModel(name, model.label, folder, model.files, _path(folder, model))


def _present(folder: Path, record: HubRecord) -> list[RepositoryFile]:
    """Those of the record that are there at their full size. The folder itself may be a link, and
    nothing in it that leads elsewhere."""
    return [
        file
        for path, file in record.files.items()
        if (folder / path).is_file()
        and (folder / path).stat().st_size == file.size
        and leads_inside(folder, folder / path)
    ]


def leads_inside(folder: Path, path: Path) -> bool:
    """Whether the folder that `path` names a file of lies in `folder`, whatever links there are."""
    return path.parent.resolve().is_relative_to(folder.resolve())


def _snapshot(name: HubName) -> Path | None:
    """The folder of a revision in huggingface_hub's cache."""
    repository = hub_directory() / f"models--{name.repository.replace('/', '--')}"
    revision = name.revision or "main"
    try:
        commit = (repository / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        commit = revision  # it may be one itself
    folder = repository / "snapshots" / commit
    try:
        return folder if commit and folder.is_dir() else None
    except OSError:  # it lies where we may not look
        return None


def _files_in(folder: Path) -> list[RepositoryFile]:
    """Of a snapshot, whose links dangle while a file is fetched."""
    return [
        _as_found(path, path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _as_found(path: Path, name: str) -> RepositoryFile:
    """huggingface_hub keeps contents under their hashes, and links to them."""
    blob = path.resolve() if path.is_symlink() else path
    is_blob = blob.parent.name == "blobs"
    sha256 = blob.name if is_blob and _SHA256.fullmatch(blob.name) else None
    sha1 = blob.name if is_blob and _SHA1.fullmatch(blob.name) else None
    return RepositoryFile(name, path.stat().st_size, sha256, sha1)
