"""Code that ran once: pages of libraries that only loading has read.

torch's library runs through most of its 400 MB once, to register what it can do; 80 MB of that
code then stay mapped, and a step uses a few. They are the library's own file, unchanged, so a
process can let go of them at any time: what it does need is mapped again from the system's cache,
16 pages at a touch. Linux alone says which pages are such, in `/proc/self/smaps`.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

SMAPS = Path("/proc/self/smaps")
CODE = "r-xp"  # readable, executable, private: nobody writes there


def drop_code() -> None:
    """Unmap all code that has been read, until it is read again. Call once, when loaded."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for start, size in unchanged_code(SMAPS.read_text()):
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def unchanged_code(smaps: str) -> Iterator[tuple[int, int]]:
    """(address, bytes) of each mapping of a file's code that has no page of its own, which would be
    lost: a debugger's breakpoints make some."""
    start = end = 0  # of a candidate; 0: none
    for line in smaps.splitlines():
        first, *fields = line.split()
        if not first.endswith(":"):  # address range, permissions, offset, device, inode, file
            is_code = fields[0] == CODE and len(fields) > 4 and fields[4].startswith("/")
            start, end = (int(part, 16) if is_code else 0 for part in first.split("-"))
        elif first == "Anonymous:" and start and fields[0] == "0":
            yield start, end - start
