"""Triton's own path to each kernel of a timed part, over a cache that was filled in advance.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR python -m tests.fake_gpu.in_advance.rehearse PART ...

One line of JSON: how many kernels were found, and which would have been compiled on a card, in C or
for the GPU. The exit status is 1 if any would.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import torch
from triton import knobs

from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance import card_driver
from tests.fake_gpu.in_advance.timed_parts import asked_parts


def main(names: Sequence[str]) -> int:
    torch.set_num_threads(1)
    found, compiled = 0, list[str]()
    card_driver.install(compiled)

    def note(*, src: Any, cache_hit: bool, **_: Any) -> None:
        nonlocal found
        found += cache_hit
        if not cache_hit:
            compiled.append(src.fn.__name__)

    knobs.compilation.listener = note
    known = dict(asked_parts())
    with torch.inference_mode(), pretending():
        for name in names:
            known[name]()
    print(json.dumps({"found": found, "compiled": compiled}))
    return 1 if compiled else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
