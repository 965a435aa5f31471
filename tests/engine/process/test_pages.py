"""Code that only loading has read is let go of, and nothing else is.

In a process of its own: the mapped pages are the process's.
"""

import subprocess
import sys

import pytest

from thirdeye.server.engine.process.unused_code import unchanged_code

LOADED = """
import torch
from pathlib import Path
from thirdeye.server.engine.process.unused_code import drop_code
def in_memory(kind):
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
def work():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 64, generator=generator).softmax(-1) @ torch.eye(64)
expected = work()
code = in_memory("Rss:") - in_memory("Anonymous:")
own = in_memory("Anonymous:")
drop_code()
assert torch.equal(work(), expected)
assert in_memory("Anonymous:") > own - 1024, "data are nobody's to drop"
print(code - (in_memory("Rss:") - in_memory("Anonymous:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is mapped")
def test_torch_works_on_with_less_of_it_mapped() -> None:
    """Tens of megabytes of its code were read to register what it can do."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 20 * 1024  # kB


SMAPS = """\
7f00-7f80 r-xp 00001000 08:01 17 /usr/lib/libfirst.so
Size:                128 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f80-7f90 r-xp 00001000 08:01 18 /usr/lib/with a breakpoint.so
Anonymous:             4 kB
7f90-7fa0 r--p 00001000 08:01 17 /usr/lib/libfirst.so
Anonymous:             0 kB
7fa0-7fb0 rw-p 00000000 00:00 0
Anonymous:             0 kB
7fb0-7fc0 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
7fc0-7fd0 r-xs 00000000 08:01 19 /dev/shm/shared
Anonymous:             0 kB
7fd0-7fe0 r-xp 00000000 00:00 0
Anonymous:             0 kB
ff00-fff0 r-xp 00001000 08:01 20 /usr/lib/libsecond (deleted).so
Anonymous:             0 kB
"""


def test_only_unchanged_code_of_files_is_dropped() -> None:
    """A page that differs from the file would be lost, and memory without a file would be zeros."""
    assert list(unchanged_code(SMAPS)) == [(0x7F00, 0x80), (0xFF00, 0xF0)]
