"""A driver for triton that says it is an H100, and launches nothing: it takes note.

Triton makes one machine code for each combination of a kernel's types, constants and facts about
its arguments (a pointer's alignment, an integer that is 1 or a multiple of 16). Which these are is
decided in the call, before any compiler, so they can be counted where there is no GPU: on tensors
of a CPU, which stay as they are. It takes a process without triton's interpreter.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import triton.runtime.jit as jit
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver as triton_drivers

EVERY = "*"  # kernel
H100 = GPUTarget("cuda", 90, 32)


@dataclass(frozen=True, slots=True)
class Form:
    """One machine code that the compiler would have been asked for."""

    kernel: str
    facts: str  # what sets it apart from the kernel's others


@dataclass(slots=True)
class Notes:
    """What was asked for so far."""

    forms: list[Form] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)  # names of kernels
    grids: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)  # of each launch
    on_launch: Any = None  # called with a name and the arguments
    on_compiled: Any = None  # called with a source and what is said of its machine code
    kernels: set[Any] = field(default_factory=set)
    compiled: dict[str, Any] = field(default_factory=dict)  # the newest form of a kernel

    def forget(self) -> None:
        """Nothing has been compiled, as for a server that starts."""
        for kernel in self.kernels:
            kernel.device_caches.clear()
        self.kernels.clear()


class FakeDriver(DriverBase):  # type: ignore[misc]  # triton is untyped
    def __init__(self) -> None:
        """Nothing is looked for."""

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> GPUTarget:
        return H100

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is one."""

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, name: str) -> str:
        return name

    def get_benchmarker(self) -> Any:
        return None


class NotedKernel:
    """In the place of machine code."""

    function, packed_metadata = 0, None

    def __init__(self, name: str, notes: Notes) -> None:
        self._name, self._notes = name, notes

    def launch_metadata(self, *arguments: Any) -> None:
        """None is wanted."""

    def run(self, *arguments: Any) -> None:
        self._notes.launches.append(self._name)
        self._notes.grids.append((self._name, arguments[:3]))
        if self._notes.on_launch is not None:
            self._notes.on_launch(self._name, arguments[9:])  # behind grid, stream and hooks


def install(*compiles: str) -> Notes:
    """From here on every kernel of this process is noted; those that are named are compiled."""
    notes = Notes()

    def take_note(
        self: Any,
        key: str,
        signature: dict[str, str],
        device: int,
        constants: dict[tuple[int, ...], Any],
        options: Any,
        attributes: dict[tuple[int, ...], Any],
        warmup: bool,
    ) -> NotedKernel:
        notes.kernels.add(self)
        names = self.arg_names
        facts = {names[path[0]]: value for path, value in constants.items()}
        facts |= {f"{names[path[0]]} % 16": 0 for path, found in attributes.items() if found}
        facts |= {"num_warps": options.num_warps, "num_stages": options.num_stages}
        notes.forms.append(Form(self.fn.__name__, str(facts)))
        kernels, _, target, _, _ = self.device_caches[device]
        if self.fn.__name__ in compiles or EVERY in compiles:
            source = self.ASTSource(self, signature, constants, attributes)
            machine_code = self.compile(source, target=target, options=options.__dict__)
            notes.compiled[self.fn.__name__] = machine_code
            if notes.on_compiled is not None:
                notes.on_compiled(source, machine_code.metadata)
        kernels[key] = NotedKernel(self.fn.__name__, notes)
        return kernels[key]

    triton_drivers.set_active(FakeDriver())
    jit.JITFunction._do_compile = take_note
    return notes
