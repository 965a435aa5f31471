"""Programmatic dependent launch: a kernel starts while the one before it ends.

    kernel n      ... work ......... last stores |
    kernel n + 1        launch, addresses, wait  | work ...

Without it a kernel is launched when the one before is done, and some 2 us of a small step's each
kernel are nobody's. A kernel that is launched so (`launch_pdl`) may run as soon as each program of
the one before has said `launch_dependents`, or has ended; `wait` returns when that kernel, all of
it, is complete and what it wrote can be seen. These rules make it right, whatever comes before:

* Every program waits, on its first line, before a value is read or written: also what a kernel
  before the last one wrote is there, as that one waited too, and memory that is used again is free.
* Before it weights may be asked for, which brings them nearer and reads nothing.
* A library's kernel, a copy or an event before it lets go when it is complete: `wait` is then over
  at once. One behind it is launched when it is complete, as ever.

It takes compute capability 9.0; elsewhere, as in triton's interpreter, nothing of it is compiled.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

HOPPER = (9, 0)  # the least compute capability


@triton.jit
def begin(DEPENDENT: tl.constexpr):
    """The first line of a kernel: the next one may come, and what was before it is complete.

    The next one waits for this kernel's end, so it may come at once: it takes what room is left
    when all programs of this one have theirs.
    """
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


def has_dependent_launch(device: torch.device) -> bool:
    return device.type == "cuda" and _is_hopper(device.index)


@cache
def _is_hopper(index: int | None) -> bool:
    return torch.cuda.get_device_capability(index) >= HOPPER


def launch_options(device: torch.device) -> dict[str, Any]:
    """What a kernel that begins with `begin` is launched with, beside its own."""
    is_on = has_dependent_launch(device)
    return {"DEPENDENT": is_on, "launch_pdl": is_on}
