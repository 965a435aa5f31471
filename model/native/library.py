"""The compiled kernels, loaded into this process: how Python calls an operation in C.

An operation is a C function `void name(const struct name_args *, struct team *)`, see `pool.h`. The
Python file of the same name declares its struct of arguments, checks what it is given and fills the
struct; here is what all of them share: loading, the threads, and a tensor's address.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.native.build import Unavailable
from thirdeye.model.native.prebuilt.manifest import is_of_a_wheel, read_vouched
from thirdeye.model.native.seal import load_code, read_sealed

MAPPED_FILES = Path("/proc/self/maps")
OPENMP_RUNTIMES = ("libgomp", "libiomp5", "libomp")


class PinArgs(ctypes.Structure):
    """`struct pin_args`."""

    _fields_ = (
        ("cpus", ctypes.POINTER(ctypes.c_int32)),
        ("errors", ctypes.POINTER(ctypes.c_int32)),
        ("num_cpus", ctypes.c_int32),
    )


class Library:
    """Raises `Unavailable` if the file is damaged or cannot be loaded, or torch has no OpenMP to
    share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Unavailable(_why_not_there(path))
        self.is_of_a_wheel = is_of_a_wheel(path)
        content = read_vouched(path) if self.is_of_a_wheel else read_sealed(path)
        if content is None:  # loading it could end this process
            raise Unavailable(f"the library is damaged: {path} (the next start makes it again)")
        try:
            # Global, so that the library's symbols are resolved against it.
            ctypes.CDLL(str(openmp_runtime()), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise Unavailable(f"torch's OpenMP cannot be loaded: {error}") from error
        try:
            self._code = load_code(content, path)
        except OSError as error:
            after = self._give_up(path)
            raise Unavailable(f"the library cannot be loaded: {error}{after}") from error
        self.isa = path.stem.split("-")[1] if "-" in path.stem else ""  # kernels-avx2, perhaps -…
        self._recorder: Callable[[int, ctypes.Structure, bool], None] | None = None
        self._run = self._code.run
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self._run.restype = None

    def _give_up(self, path: Path) -> str:
        """A whole library that this machine cannot load is another's: it is in the way of ours."""
        if self.is_of_a_wheel:
            return ""
        with suppress(OSError):
            path.unlink()
            return " (the next start makes it again)"
        return ""

    def operation(self, name: str) -> int:
        """The address of the C function, for `run`."""
        address = ctypes.cast(getattr(self._code, name), ctypes.c_void_p).value
        assert address is not None
        return address

    def run(self, operation: int, args: ctypes.Structure, *, is_small: bool = False) -> None:
        """Do it now, on as many threads as torch has; the interpreter's lock is released.

        `is_small`: on this thread alone, since the work is done before another would be awake.
        """
        if self._recorder is not None:
            self._recorder(operation, args, is_small)
            return
        num_threads = 1 if is_small else torch.get_num_threads()
        self._run(operation, ctypes.addressof(args), num_threads)

    @contextmanager
    def recorded_by(
        self, recorder: Callable[[int, ctypes.Structure, bool], None]
    ) -> Iterator[None]:
        """Meanwhile operations are given to `recorder` instead of being done."""
        assert self._recorder is None
        self._recorder = recorder
        try:
            yield
        finally:
            self._recorder = None

    def pin(self, cpus: Sequence[int]) -> None:
        """Keep torch's threads on these CPUs, one each, but for the first, which the rest leave its
        own (`pin.c`). Raises OSError if the system does not let them."""
        errors = (ctypes.c_int32 * len(cpus))(*[-1] * len(cpus))
        args = PinArgs((ctypes.c_int32 * len(cpus))(*cpus), errors, len(cpus))
        self.run(self.operation("pin"), args)
        for cpu, error in zip(cpus, errors, strict=True):
            if error > 0:
                raise OSError(error, f"{os.strerror(error)}, for CPU {cpu}")

    def function(self, name: str, *argument_types: Any, result: Any = None) -> Any:
        """A plain C function, for what is done once and on one thread."""
        function = getattr(self._code, name)
        function.argtypes, function.restype = argument_types, result
        return function


def address(tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
    """Where a dense tensor of this type and shape begins, -1 in a shape standing for any size."""
    assert tensor.dtype == dtype, (tensor.dtype, dtype)
    assert tensor.is_contiguous(), (tensor.shape, tensor.stride())
    assert tensor.is_cpu, tensor.device
    have = tensor.shape
    assert len(have) == len(shape), (have, shape)
    for size, wanted in zip(have, shape, strict=True):
        assert wanted in (-1, size), (have, shape)
    return tensor.data_ptr()


def openmp_runtime(maps: Path = MAPPED_FILES) -> Path:
    """The OpenMP library that torch has loaded into this process. Raises `Unavailable`."""
    try:
        paths = {Path(line.split(maxsplit=5)[-1]) for line in maps.read_text().splitlines()}
    except OSError as error:
        raise Unavailable(f"no list of loaded libraries: {error}") from error
    found = sorted(path for path in paths if path.name.startswith(OPENMP_RUNTIMES))
    if len(found) != 1:
        raise Unavailable(f"torch shares no OpenMP runtime: {len(found)} are loaded")
    return found[0]


def _why_not_there(path: Path) -> str:
    """The compiler is at work, unless it has nowhere to write (a read-only system, say), or could
    not do it: whoever started it says so."""
    folder = next(parent for parent in path.parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return f"they are not in {path.parent}, which cannot be written"
    return "they are being compiled, unless the log says why not; the next start has them, then"
