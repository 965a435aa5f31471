"""torch without its registrations of shapes, which come when they are asked for."""

import subprocess
import sys

LATER = """
import gc, sys
gc.disable()
from thirdeye.model.loading.import_torch import SHAPES, import_rest, import_torch

import_torch()
import torch

assert SHAPES not in sys.modules and "torch._decomp.decompositions" not in sys.modules
assert not hasattr(torch, "_meta_registrations")
on_cpu = torch.cumsum(torch.ones(3, 4), 1)  # computing needs none of it
import_rest()
said = torch.bucketize(torch.empty(5, device="meta"), torch.empty(3, device="meta"))
assert said.shape == (5,) and said.device.type == "meta"
import_rest()  # once more changes nothing
assert torch.Generator().manual_seed(1).initial_seed() == 1
print(on_cpu[0].tolist(), said.dtype)
"""


def test_shapes_come_when_they_are_asked_for() -> None:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATER], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == "[1.0, 2.0, 3.0, 4.0] torch.int64\n"
