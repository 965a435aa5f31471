"""The parts of `tests.gpu.run` as a card has them, without one: the two commands of docs/gpu.md.

    PACKED=.gpu TRITON_INTERPRET=0 tests/gpu/card/run.sh OUT \\
        --parts tests.fake_gpu.in_advance.card_parts --only checks "engine 8B"

What they unpack, how parts are kept apart, what is written after each, and which kernels triton
finds in what was packed is as beside a card; nothing is computed, so nothing is compared, and
times are those of Python. A part that cannot run without a card is left out.
"""

import platform
from collections.abc import Callable
from functools import partial

import torch

from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance import card_driver, unasserted
from tests.fake_gpu.in_advance.fill_cache import as_on_a_gpu
from tests.gpu.part import Findings, Work

CPU = torch.device("cpu")


def facts() -> dict[str, object]:
    return {"device": "none", "torch": torch.__version__, "python": platform.python_version()}


def absent() -> dict[str, str]:
    return {"memcheck": "there is nothing to watch"}


def parts() -> dict[str, Work]:
    torch.set_num_threads(1)
    unasserted.install()
    from tests.fake_gpu.in_advance.timed_parts import timed_parts

    timed = {name: partial(timed_part, work) for name, work in timed_parts()}
    return {"checks": checks} | timed


def checks(findings: Findings) -> None:
    from tests.gpu.parts import run_checks

    card_driver.install([])
    with torch.inference_mode(), pretending(), as_on_a_gpu():
        run_checks(CPU, findings)


def timed_part(work: Callable[[], None], findings: Findings) -> None:
    card_driver.install([])
    with torch.inference_mode(), pretending():
        work()
    findings.save({})
