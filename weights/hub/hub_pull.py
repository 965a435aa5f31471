"""Fetch a model of the hub, or find out that what is here is what the hub has.

A file comes into a partial one named by its hash, so an interrupted pull goes on where it stopped,
in this run or a later one. Only when every file is there and has the hub's hash do they take their
names, and the record says that they are whole: until then, what was here before stays.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from thirdeye.weights.errors import PullError
from thirdeye.weights.hub.chosen_files import ChosenFiles, RepositoryFile, choose_files
from thirdeye.weights.hub.file_hash import has_hash
from thirdeye.weights.hub.hub_client import (
    HubClient,
    HuggingFaceHub,
    LostConnection,
    RepositoryListing,
)
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.hub.hub_store import (
    HubRecord,
    folder_of,
    leads_inside,
    read_record,
    write_record,
)
from thirdeye.weights.storage import (
    ByteCount,
    Progress,
    check_room,
    is_full,
    no_progress,
    no_room,
    put_in_place,
)


@dataclass(frozen=True, slots=True)
class PulledModel:
    """What to open, and how much of it came over the network."""

    path: Path
    label: str
    commit: str
    num_bytes: int
    num_fetched: int


def pull_hub_model(
    name: HubName,
    progress: Progress = no_progress,
    connect: Callable[[HubName], HubClient] = HuggingFaceHub,
) -> PulledModel:
    """Raises `PullError` or `ModelNotFound`."""
    hub = connect(name)
    listing = hub.list_files()
    chosen = choose_files(listing.files, name)
    folder = folder_of(name)
    partials = folder / ".partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_ways(folder, [partials / "lock", *(folder / file.path for file in chosen.files)])
        partials.mkdir(exist_ok=True)
        with _alone(partials, name):
            missing = [file for file in chosen.files if not _is_whole(folder, file, progress)]
            _forget_damaged(folder, missing)
            waiting = _waiting_bytes(partials, missing)
            check_room(folder, sum(file.size for file in missing) - waiting, str(name))
            _fetch_all(hub, listing.commit, missing, partials, progress)
            for file in missing:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                put_in_place(_partial(partials, file), folder / file.path)
            _record(folder, name, listing, chosen)
    except OSError as error:
        if is_full(error):
            raise no_room(folder, chosen.size, str(name)) from error
        raise PullError(f"cannot store {name} in {folder}: {error}.") from error
    path = folder / chosen.entry if chosen.entry else folder
    fetched = sum(file.size for file in missing)
    return PulledModel(path, chosen.label, listing.commit, chosen.size, fetched)


def _forget_damaged(folder: Path, missing: list[RepositoryFile]) -> None:
    """What has not the hash that was recorded for it is no longer served, should the rest of the
    pull fail. What was whole at another commit still is."""
    record = read_record(folder)
    if record is None:
        return
    damaged = {file.path for file in missing if record.files.get(file.path) == file}
    if damaged:
        kept = {path: file for path, file in record.files.items() if path not in damaged}
        write_record(folder, msgspec.structs.replace(record, files=kept))


def _fetch_all(
    hub: HubClient, commit: str, files: list[RepositoryFile], partials: Path, progress: Progress
) -> None:
    """Each file, whole and checked, as a partial one."""
    before, total = 0, sum(file.size for file in files)
    for file in files:
        partial = _partial(partials, file)
        if partial.is_symlink():  # it is none of ours, and what comes would go where it leads
            partial.unlink()
        if partial.is_file() and partial.stat().st_size > file.size:
            partial.unlink()

        def done(num_bytes: int, before: int = before) -> None:
            progress("download", before + num_bytes, total)

        _fetch(hub, file, commit, partial, done)
        if not has_hash(partial, file, progress):
            partial.unlink()
            raise PullError(
                f"what came for {file.path} does not have the hash that the hub gives for it "
                f"({file.sha256 or file.blob_id}); it was deleted. Run the same command again."
            )
        before += file.size


def _fetch(
    hub: HubClient, file: RepositoryFile, commit: str, partial: Path, done: ByteCount
) -> None:
    """Again after a broken line, for as long as that brings more of the file."""
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return hub.fetch(file, commit, partial, done)
        except LostConnection:
            if not partial.exists() or not before < partial.stat().st_size < file.size:
                raise


def _waiting_bytes(partials: Path, files: list[RepositoryFile]) -> int:
    paths = [_partial(partials, file) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _partial(partials: Path, file: RepositoryFile) -> Path:
    if not (key := file.sha256 or file.blob_id) or not key.isalnum():
        raise PullError(f"the hub gives no hash for {file.path}, so it cannot be checked.")
    return partials / key


def _is_whole(folder: Path, file: RepositoryFile, progress: Progress) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size and has_hash(path, file, progress)


def _record(folder: Path, name: HubName, listing: RepositoryListing, chosen: ChosenFiles) -> None:
    """Other GGUF files stay on record: each is whole, and a model by itself. Shards that this
    commit no longer has would be taken for part of the model, and go."""
    before = read_record(folder)
    files = dict(before.files) if before is not None else {}
    new = {file.path: file for file in chosen.files}
    stale = [path for path in files if not path.endswith(".gguf") and path not in new]
    if chosen.entry is None:
        files = {path: file for path, file in files.items() if path not in stale}
        for path in stale:
            if leads_inside(folder, folder / path):
                (folder / path).unlink(missing_ok=True)
    record = HubRecord(
        repository=name.repository,
        revision=name.revision,
        commit=listing.commit,
        files=files | new,
    )
    write_record(folder, record)


def _check_ways(folder: Path, paths: list[Path]) -> None:
    """Raises `PullError` where a link would take what is written to another place. The folder
    itself may be one: models may lie on another disk."""
    for path in paths:
        if not leads_inside(folder, path):
            raise PullError(
                f"{path.parent} leads out of {folder}, where this model's files belong: nothing "
                "was written. Remove that link, and run the same command again."
            )


@contextmanager
def _alone(partials: Path, name: HubName) -> Iterator[None]:
    """Two that append to one partial file would spoil it."""
    lock = partials / "lock"
    if lock.is_symlink():  # what it leads to would be emptied
        lock.unlink()
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise PullError(f"another process is fetching {name} just now.") from None
