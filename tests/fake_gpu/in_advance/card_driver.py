"""Triton as it is beside a card, but that nothing is loaded into one and nothing is launched.

Keys, look-ups and launchers are its own: machine code and launchers are found in its cache or made.
"""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from triton.backends.nvidia import driver as nvidia
from triton.runtime import build
from triton.runtime import driver as triton_drivers

from tests.fake_gpu import driver
from tests.fake_gpu.engine import stand_in
from tests.fake_gpu.in_advance.launchers import LOADS

HOPPER = {"max_shared_mem": 232448, "multiprocessor_count": 132, "max_num_regs": 65536}


class CardLauncher(nvidia.CudaLauncher):  # type: ignore[misc]  # triton is untyped
    """Found or built. It writes what the host could not do without."""

    def __init__(self, source: Any, metadata: Any) -> None:
        super().__init__(source, metadata)
        self._name = source.fn.__name__

    def __call__(self, *arguments: Any) -> None:
        stand_in(self._name, arguments[9:])  # behind grid, stream and hooks


class CardDriver(driver.FakeDriver):
    launcher_cls = CardLauncher
    utils = SimpleNamespace(
        load_binary=lambda *_: (0, 0, 0, 0, 1024),
        get_device_properties=lambda device: HOPPER | {"warpSize": 32},
        build_signature_metadata=lambda signature: b"",
        launch=lambda *_: None,
    )


def install(built: list[str]) -> None:
    """From here on in this process; `built` gets the names of what is compiled in C."""
    build_in_c = build._build

    def in_c(name: str, *arguments: Any) -> Any:
        built.append(f"{name}.c")
        return build_in_c(name, *arguments)

    launcher = SimpleNamespace(launch=lambda *_: None)
    patch.object(build, LOADS, lambda *_: launcher).start()
    patch.object(build, "_build", in_c).start()
    triton_drivers.set_active(CardDriver())
