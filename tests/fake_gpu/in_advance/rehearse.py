"""Triton's own path to each kernel of a run's parts, over a cache that was filled in advance.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR python -m tests.fake_gpu.in_advance.rehearse PART ...

A part is one of those that are timed, `guesses` or `checks`: all of these in one process, as on a
card. One line of JSON: how many kernels were found, which would have been compiled on a card, in C
or for the GPU, and which checks broke off before they had asked for all. The exit status is 1 if
there is any.
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from triton import knobs

from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance import card_driver, card_parts, unasserted
from tests.gpu.part import Findings


def main(names: Sequence[str]) -> int:
    torch.set_num_threads(1)
    unasserted.install()
    from tests.fake_gpu.in_advance.timed_parts import asked_parts

    found, compiled = 0, list[str]()
    card_driver.install(compiled)

    def note(*, src: Any, cache_hit: bool, **_: Any) -> None:
        nonlocal found
        found += cache_hit
        if not cache_hit:
            compiled.append(src.fn.__name__)

    knobs.compilation.listener = note
    broken = dict[str, str]()
    known: dict[str, Callable[[], None]] = dict(asked_parts())
    known["checks"] = partial(check, broken)
    with torch.inference_mode(), pretending():
        for name in names:
            known[name]()
    print(json.dumps({"found": found, "compiled": compiled, "broken": broken}))
    return 1 if compiled or broken else 0


def check(broken: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        findings = Findings(Path(folder) / "checks", {})
        card_parts.checks(findings)
        broken |= findings.found["failed"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
