"""A compiled library's seal: its own hash behind its last byte, so that half a file is known.

A file that a full disk, a power cut or another program left damaged would end the process while it
is loaded (a page beyond the end of a mapped file is a SIGBUS, not an error). The loader of shared
objects does not look behind the last section, so the seal travels in the same file.
"""

import hashlib
import os
import stat
from pathlib import Path

MARK = b"thirdeye-sealed\n"  # 16 bytes, then the 32 of SHA-256
MAX_BYTES = 1 << 28  # a library has some 2 MB
SEAL_BYTES = len(MARK) + 32


def seal_in_place(made: Path, target: Path) -> None:
    """Seal the finished file `made` and give it the name `target`, in one step and for good: its
    bytes are on the disk before the name is. Raises `OSError`."""
    with made.open("rb+") as file:
        body = file.read()
        file.write(_seal(body))
        file.flush()
        os.fsync(file.fileno())
    made.replace(target)


def is_sealed(path: Path) -> bool:
    """Whether every byte of the file is what was sealed. What cannot be read is not, nor is a pipe,
    a device, or anything larger than a library: reading it might never end."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return False
            content = file.read(MAX_BYTES)
    except OSError:
        return False
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    return seal == _seal(body)


def _seal(body: bytes) -> bytes:
    return MARK + hashlib.sha256(body).digest()
