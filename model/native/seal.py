"""A compiled library's seal: its own hash behind its last byte, so that half a file is known.

A file that a full disk, a power cut or another program left damaged would end the process while it
is loaded (a page beyond the end of a mapped file is a SIGBUS, not an error). The loader of shared
objects does not look behind the last section, so the seal travels in the same file. It is of the
file's name too, which stands for sources, flags and processor: one in place of another is damage.
What was verified is what is loaded (`load_code`).
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path

MARK = b"thirdeye-sealed\n"  # 16 bytes, then the 32 of SHA-256
MAX_BYTES = 1 << 28  # a library has some 2 MB
SEAL_BYTES = len(MARK) + 32
SEAL_KIND = "of name and body"  # part of a library's name: no other kind is found by it


def seal_in_place(made: Path, target: Path) -> None:
    """Seal the finished file `made` and give it the name `target`, in one step and for good: its
    bytes are on the disk before the name is. Raises `OSError`."""
    with made.open("rb+") as file:
        body = file.read()
        file.write(_seal(target.name, body))
        file.flush()
        os.fsync(file.fileno())
    made.replace(target)


def is_sealed(path: Path) -> bool:
    """Whether every byte of the file is what was sealed under this name."""
    return read_sealed(path) is not None


def read_sealed(path: Path) -> bytes | None:
    """The file with its seal; None if it is damaged, not there, or cannot be read."""
    try:
        content = read_library(path)
    except OSError:
        return None
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    return content if seal == _seal(path.name, body) else None


def read_library(path: Path) -> bytes:
    """All bytes of a file. Raises `OSError`; also for a pipe, a device, and anything larger than a
    library: reading it might never end."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(MAX_BYTES)


def _seal(name: str, body: bytes) -> bytes:
    return MARK + hashlib.sha256(name.encode() + b"\0" + body).digest()


_LOADED: dict[bytes, ctypes.CDLL] = {}  # by SHA-256: one copy of each in a process


def load_code(content: bytes, path: Path) -> ctypes.CDLL:
    """What was verified is what is loaded and stays, whoever writes to the file meanwhile or later:
    a copy in memory that nobody can change (memfd_create(2)). A file that another program cuts
    while its code is mapped would end this process. Where a system has none, the file `path` it
    is, which holds `content`. Raises OSError."""
    digest = hashlib.sha256(content).digest()
    if digest not in _LOADED:
        _LOADED[digest] = _in_memory(content, path.name) or ctypes.CDLL(str(path))
    return _LOADED[digest]


def _in_memory(content: bytes, name: str) -> ctypes.CDLL | None:
    """None where it cannot be. The descriptor stays open: the loader knows libraries by their
    names, and a number that is used again would mean the first one."""
    try:
        file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        return None
    try:
        with os.fdopen(file, "wb", closefd=False) as writer:
            writer.write(content)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        return ctypes.CDLL(f"/proc/self/fd/{file}")
    except OSError:
        os.close(file)
        return None
