"""The C library's heap in the engine's process: what goes back to the system, and what stays.

Loading leaves holes that nobody needs again. A step is the opposite: it asks for the same buffers
every time, and glibc, left alone, returns them between steps, so that the kernel maps and clears
every page anew. For a prompt of 512 tokens that was 50,000 page faults and a fifth of the time.
Other C libraries have neither call, and keep their ways.
"""

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT = 64 << 20  # bytes at the heap's end that may lie free
LARGEST_KEPT = 32 << 20  # bytes of one buffer; glibc takes no more here


def settle_heap() -> None:
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
