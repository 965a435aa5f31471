"""A folder for work that is moved to its name when it is finished. What a killed process leaves of
it goes with the next: the folder is locked as long as its process lives."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SWEEP_SECONDS = 10.0  # a folder that is younger may not be locked yet


@contextmanager
def work_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new one; what others have left is deleted. Raises OSError."""
    sweep(parent, prefix)
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as name, held(Path(name)):
        yield Path(name)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """`sweep` leaves it alone."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        is_ours(file)
        yield
    finally:
        os.close(file)


def sweep(parent: Path, prefix: str) -> None:
    """Whatever cannot be looked into stays."""
    found: list[Path] = []
    with suppress(OSError):
        found = list(parent.glob(f"{prefix}*"))
    for folder in found:
        with suppress(OSError):
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                age = time.time() - os.fstat(file).st_mtime
                if age > SWEEP_SECONDS and is_ours(file):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(file)


def is_ours(file: int) -> bool:
    """Whether nobody else has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here: a name appears in one step, whoever is last
        return True
    return True
