"""Compile what a run on a GPU asks for, without one, into a cache that can be taken along.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR \\
        python -m tests.fake_gpu.in_advance.fill_cache [CHECK | PART ...]

Triton finds machine code by its own version, the target, the source and the form: a cache of the
same triton as beside the card saves minutes there, any other costs nothing. Kernels are
compiled and not run, so what checks compare is whatever was there, and so are indices: nothing is
asserted, and each check is a process that may end by them. What it has compiled stays. Parts that
are timed ask on tensors without memory (`timed_parts.py`).
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.fake_gpu import driver
from tests.fake_gpu.engine import MULTIPROCESSORS, GraphMemory, pretending, stand_in
from tests.fake_gpu.in_advance import launchers, unasserted
from thirdeye.model.attention.triton import TritonAttention

CPU = torch.device("cpu")
# Of one that waits for what nobody computes: of a processor, and by the clock of a busy machine.
SECONDS, SECONDS_BY_THE_CLOCK = 300, 1800


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)  # a process with more cannot be forked
    notes = driver.install(driver.EVERY)
    notes.on_launch = stand_in
    if "TRITON_LIBCUDA_PATH" in os.environ:  # noqa: TID251  # triton's own: what to link against
        launchers.keep_utilities()
        notes.on_compiled = launchers.keep_launcher
    unasserted.install()
    from tests.fake_gpu.in_advance.timed_parts import asked_parts
    from tests.gpu.checks.all_checks import checks

    known: dict[str, Callable[[], None]] = dict(asked_parts())
    known |= {name: partial(check, CPU) for name, check in checks()}
    with torch.inference_mode(), pretending(), as_on_a_gpu():
        asked = {}
        for name in names or known:
            asked[name] = in_child(known[name], notes)
            print(name, asked[name], file=sys.stderr, flush=True)
    print(json.dumps(asked))


def as_on_a_gpu() -> ExitStack:
    """Engines that checks make have the attention of a GPU and no kernels for a CPU; what they say
    is compared with nothing."""
    stack = ExitStack()
    stack.enter_context(patch.object(torch.testing, "assert_close"))
    stack.enter_context(patch.object(torch, "_scaled_mm", scaled_product))
    stack.enter_context(patch("thirdeye.server.bench.random_model.load_native", lambda *_: None))
    chosen = "thirdeye.model.attention.choose_attention"
    stack.enter_context(patch(f"{chosen}._best", lambda *_: "triton"))

    def triton(device: torch.device, is_deterministic: bool) -> TritonAttention:
        return TritonAttention(
            num_multiprocessors=MULTIPROCESSORS, is_deterministic=is_deterministic
        )

    stack.enter_context(patch(f"{chosen}._triton", triton))
    memory = "thirdeye.server.engine.cache.device_memory.CudaMemory"
    stack.enter_context(patch(memory, lambda _: GraphMemory()))
    ahead = "thirdeye.server.load.kv_memory.is_run_ahead"
    stack.enter_context(patch(ahead, lambda *_: True))
    numbers = "thirdeye.server.engine.run_ahead.device_sampler.is_finite"
    stack.enter_context(patch(numbers, lambda logits: torch.ones(len(logits), dtype=torch.bool)))
    return stack


def scaled_product(x: Tensor, weight: Tensor, *, out_dtype: torch.dtype, **_: Any) -> Tensor:
    """The library's, which a CPU has not: of its shape."""
    return torch.zeros(len(x), weight.shape[1], dtype=out_dtype)


def in_child(work: Callable[[], None], notes: driver.Notes) -> str:
    """How many forms of kernels it has asked for, and how it ended if not well."""
    here, there = os.pipe()
    if child := os.fork():
        os.close(there)
        with os.fdopen(here) as said:
            counted = said.read()
        os.waitpid(child, 0)
        return counted or "it died"
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(SECONDS_BY_THE_CLOCK)
    ending = ""
    try:
        work()
    except Exception as error:
        ending = f", then {type(error).__name__}"
    finally:
        os.write(there, f"{len(notes.forms)}{ending}".encode())
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
