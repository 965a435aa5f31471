"""What fetched files need of the disk: a hash over one, and room for one."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from thirdeye.weights.errors import PullError

Progress = Callable[[str, int, int], None]  # "check", "download" or "unpack", bytes done, in all
ByteCount = Callable[[int], None]  # bytes of a file that are there

CHUNK = 1 << 20


def no_progress(step: str, done: int, total: int) -> None:
    """The callback for those who do not watch."""


def sha256_of(path: Path, progress: Progress = no_progress) -> str:
    """The file's SHA-256, hexadecimal. Raises OSError."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress("check", done, total)
    return digest.hexdigest()


def read_file(path: Path, most: int) -> bytes:
    """A file's bytes. Raises OSError, also for a pipe, a device, and what is larger than `most`:
    none of them could be one that we have written, and reading might never end."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise OSError(errno.EINVAL, f"not a file of at most {most} bytes", str(path))
        return file.read(most)


def put_in_place(finished: Path, target: Path) -> None:
    """Give a finished file its name, in one step and for good: its bytes are on the disk before the
    name is, so that no power cut leaves a name over half a file. Raises OSError."""
    with finished.open("rb") as file:
        os.fsync(file.fileno())
    finished.replace(target)


def check_room(directory: Path, needed: int, what: str) -> None:
    """Before a byte is fetched: raises `PullError` if the disk has fewer bytes free than needed."""
    if shutil.disk_usage(directory).free < needed:
        raise no_room(directory, needed, what)


def no_room(directory: Path, needed: int, what: str) -> PullError:
    free = shutil.disk_usage(directory).free
    return PullError(
        f"there is no room for {what} in {directory}: it needs {needed:,} bytes while it is "
        f"fetched, {free:,} are free.\nFree some, or set XDG_CACHE_HOME to a directory on a disk "
        "that has more."
    )


def is_full(error: BaseException) -> bool:
    """The disk, or the user's part of it, ran out after all."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class WatchedFile:
    """A binary file open for appending that tells how long it is after each write."""

    def __init__(self, file: BinaryIO, told: ByteCount) -> None:
        self._file = file
        self._told = told
        told(file.tell())

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._told(self._file.tell())
        return written

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)
