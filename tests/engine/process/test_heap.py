"""A step's buffers stay mapped: after `settle_heap` their pages are not faulted in again.

In a process of its own: the heap's settings are the process's.
"""

import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from thirdeye.server.engine.process.heap_settings import settle_heap
settle_heap()
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
        [sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 100
