"""When loading is over, code that only it has read is let go of and nothing else is; and a step's
buffers stay mapped.

In processes of their own: mapped pages and the heap's settings are the process's.
"""

import subprocess
import sys

import pytest

from thirdeye.server.engine.process.footprint import unchanged_code

TORCH = """
import gc
gc.disable()
from thirdeye.model.loading.import_torch import import_torch
import_torch()
"""  # as the engine's process has it
STEPS = """
import resource, torch
from thirdeye.server.engine.process.footprint import keep_step_buffers
keep_step_buffers()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():  # the buffers of four layers, for a prompt of 512 tokens
    x = torch.ones(512, 576)
    for _ in range(4):
        buffers = [torch.ones(512, width) for width in (960, 3072, 1536, 576)]
        x = x + buffers[-1]
for _ in range(8):  # until the heap has found its places
    step()
before = faults()
step()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc's")
def test_a_steps_buffers_are_not_mapped_anew() -> None:
    """Thousands of page faults a step were a fifth of a prompt's time."""
    done = subprocess.run(
        [sys.executable, "-c", TORCH + STEPS],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) < 100


LOADED = """
import torch
from pathlib import Path
from thirdeye.server.engine.process.footprint import unmap_used_code
def in_memory(kind):
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
def work():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 64, generator=generator).softmax(-1) @ torch.eye(64)
expected = work()
code = in_memory("Rss:") - in_memory("Anonymous:")
own = in_memory("Anonymous:")
unmap_used_code()
assert torch.equal(work(), expected)
assert in_memory("Anonymous:") > own - 1024, "data are nobody's to drop"
print(code - (in_memory("Rss:") - in_memory("Anonymous:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what is mapped")
def test_torch_works_on_with_less_of_it_mapped() -> None:
    """Tens of megabytes of its code were read to register what it can do."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
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
