"""Whether a file of a hub's repository is what the hub says it is."""

import hashlib
from pathlib import Path

from thirdeye.weights.hub.chosen_files import RepositoryFile
from thirdeye.weights.storage import CHUNK, Progress, no_progress, sha256_of


def has_hash(path: Path, file: RepositoryFile, progress: Progress = no_progress) -> bool:
    """By SHA-256, as for all large files, or by git's name for the contents of a small one. Raises
    OSError."""
    if file.sha256 is not None:
        return sha256_of(path, progress) == file.sha256
    head = b"blob %d\0" % path.stat().st_size
    digest = hashlib.sha1(head, usedforsecurity=False)
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == file.blob_id
