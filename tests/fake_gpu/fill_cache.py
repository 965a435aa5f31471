"""Compile what the device checks ask for, without a GPU, into a cache that can be taken along.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR python -m tests.fake_gpu.fill_cache [CHECK ...]

Triton finds machine code by its own version, the target, the source and the form: a cache of the
same Python and triton as beside the card saves minutes there, any other costs nothing. Kernels are
compiled and not run, so checks come to nothing here; what they ask for is all that is wanted.
"""

import json
import sys
from collections.abc import Sequence

import torch

from tests.fake_gpu import driver
from tests.fake_gpu.engine import pretending

CPU = torch.device("cpu")


def main(names: Sequence[str]) -> None:
    notes = driver.install(driver.EVERY)
    from tests.gpu.checks.all_checks import checks

    known = dict(checks())
    asked = {}
    with torch.inference_mode(), pretending():
        for name in names or known:
            before = len(notes.forms)
            try:
                known[name](CPU)
            except Exception as error:  # of numbers that no kernel has written
                asked[name] = f"{len(notes.forms) - before}, then {type(error).__name__}"
            else:
                asked[name] = str(len(notes.forms) - before)
    print(json.dumps(asked))


if __name__ == "__main__":
    main(sys.argv[1:])
