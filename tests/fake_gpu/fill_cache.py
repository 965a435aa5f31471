"""Compile what the device checks ask for, without a GPU, into a cache that can be taken along.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR python -m tests.fake_gpu.fill_cache [CHECK ...]

Triton finds machine code by its own version, the target, the source and the form: a cache of the
same Python and triton as beside the card saves minutes there, any other costs nothing. Kernels are
compiled and not run, so what checks compare is whatever was there, and so are indices: nothing is
asserted, and each check is a process that may end by them. What it has compiled stays.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch

from tests.fake_gpu import driver, unasserted
from tests.fake_gpu.engine import pretending

CPU = torch.device("cpu")
SECONDS = 300  # of a check that waits for what nobody computes


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)  # a process with more cannot be forked
    notes = driver.install(driver.EVERY)
    unasserted.install()
    from tests.gpu.checks.all_checks import checks

    known = dict(checks())
    with torch.inference_mode(), pretending(), patch.object(torch.testing, "assert_close"):
        asked = {}
        for name in names or known:
            asked[name] = in_child(known[name], notes)
            print(name, asked[name], file=sys.stderr)
    print(json.dumps(asked))


def in_child(check: Callable[[torch.device], None], notes: driver.Notes) -> str:
    """How many forms of kernels it has asked for, and how it ended if not well."""
    here, there = os.pipe()
    if child := os.fork():
        os.close(there)
        with os.fdopen(here) as said:
            counted = said.read()
        os.waitpid(child, 0)
        return counted or "it died"
    signal.alarm(SECONDS)
    ending = ""
    try:
        check(CPU)
    except Exception as error:
        ending = f", then {type(error).__name__}"
    finally:
        os.write(there, f"{len(notes.forms)}{ending}".encode())
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
