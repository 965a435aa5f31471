"""A process once loading is over: what goes back to the system, and what stays mapped.

* Buffers. Loading leaves holes that nobody needs again. A step is the opposite: it asks for the
  same buffers every time, and glibc, left alone, returns them between steps, so that the kernel
  maps and clears every page anew. For a prompt of 512 tokens that was 50,000 page faults and a
  fifth of the time. Other C libraries have neither call, and keep their ways.
* Code that ran once. torch's library runs through most of its 400 MB once, to register what it can
  do; 80 MB of that code then stay mapped, and a step uses a few. They are the library's own file,
  unchanged, so a process can let go of them at any time: what it does need is mapped again from the
  system's cache, 16 pages at a touch. Linux alone says which pages are such, in `/proc/self/smaps`.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT = 64 << 20  # bytes at the heap's end that may lie free
LARGEST_KEPT = 32 << 20  # bytes of one buffer; glibc takes no more here

SMAPS = Path("/proc/self/smaps")
CODE = "r-xp"  # readable, executable, private: nobody writes there


def trim_heap() -> None:
    """Give back what loading left, in a process that has no steps."""
    if sys.platform == "linux":
        _call(ctypes.CDLL(None), "malloc_trim", 0)


def keep_step_buffers() -> None:
    """Give back what loading left, and from now on keep what steps use. Call once, when loaded."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    _call(libc, "malloc_trim", 0)
    _call(libc, "mallopt", M_TRIM_THRESHOLD, KEPT)
    _call(libc, "mallopt", M_MMAP_THRESHOLD, LARGEST_KEPT)


def _call(libc: Any, name: str, *args: int) -> None:
    if (function := getattr(libc, name, None)) is not None:
        function(*args)


def unmap_used_code() -> None:
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
