"""Triton's own path to each kernel of a timed part, over a cache that was filled in advance.

    TRITON_INTERPRET=0 TRITON_CACHE_DIR=DIR python -m tests.fake_gpu.in_advance.rehearse PART ...

Keys, look-ups and launchers are what they are beside a card; nothing is loaded into one. One line
of JSON: how many kernels were found, and which would have been compiled there, in C or for the GPU.
The exit status is 1 if any would.
"""

import json
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from triton import knobs
from triton.backends.nvidia import driver as nvidia
from triton.runtime import build
from triton.runtime import driver as triton_drivers

from tests.fake_gpu import driver
from tests.fake_gpu.engine import pretending
from tests.fake_gpu.in_advance.launchers import LOADS
from tests.fake_gpu.in_advance.timed_parts import asked_parts

HOPPER = {"max_shared_mem": 232448, "multiprocessor_count": 132, "max_num_regs": 65536}


class CardDriver(driver.FakeDriver):
    """Launchers are found or built; machine code is found or compiled, and not loaded."""

    launcher_cls = nvidia.CudaLauncher
    utils = SimpleNamespace(
        load_binary=lambda *_: (0, 0, 0, 0, 1024),
        get_device_properties=lambda device: HOPPER | {"warpSize": 32},
        build_signature_metadata=lambda signature: b"",
        launch=lambda *_: None,
    )


def main(names: Sequence[str]) -> int:
    torch.set_num_threads(1)
    triton_drivers.set_active(CardDriver())
    found, compiled = 0, list[str]()

    def note(*, src: Any, cache_hit: bool, **_: Any) -> None:
        nonlocal found
        found += cache_hit
        if not cache_hit:
            compiled.append(src.fn.__name__)

    def in_c(name: str, *arguments: Any) -> Any:
        compiled.append(f"{name}.c")
        return build_in_c(name, *arguments)

    build_in_c = build._build
    knobs.compilation.listener = note
    launcher = SimpleNamespace(launch=lambda *_: None)
    known = dict(asked_parts())
    with (
        patch.object(build, LOADS, lambda *_: launcher),
        patch.object(build, "_build", in_c),
        torch.inference_mode(),
        pretending(),
    ):
        for name in names:
            known[name]()
    print(json.dumps({"found": found, "compiled": compiled}))
    return 1 if compiled else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
