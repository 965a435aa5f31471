"""A compiled library's seal: its own hash behind its last byte, so that half a file is known.

A file that a full disk, a power cut or another program left damaged would end the process while it
is loaded (a page beyond the end of a mapped file is a SIGBUS, not an error). The loader of shared
objects does not look behind the last section, so the seal travels in the same file.
"""

import hashlib
import os
from pathlib import Path

MARK = b"thirdeye-sealed\n"  # 16 bytes, then the 32 of SHA-256
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
    """Whether every byte of the file is what was sealed; a file that cannot be read is not."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    return seal == _seal(body)


def _seal(body: bytes) -> bytes:
    return MARK + hashlib.sha256(body).digest()
