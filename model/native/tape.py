"""A tape: the operations of a forward pass, recorded once and replayed by one call into C.

The CPU's twin of a CUDA graph. A step of a few tokens is hundreds of small operations, and Python
takes as long to start one as it takes to run. So they are recorded without being run, for one shape
of inputs, with buffers that stay where they are; a step then copies its inputs into these and
replays. What the model is stays in Python, in one place.

While a tape is recorded every call of torch is looked at. Memory is given from the tape's own,
views are let through, an addition and what one number does to all are put on tape; anything else
would be missing at replay, so it is refused: `Unrecordable`.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from thirdeye.model.native.library import Library, address

SMALL_ADDITION = 1 << 14
ALIGNMENT = 64

aten = torch.ops.aten
EMPTY: dict[Any, Callable[..., Sequence[int]]] = {  # what gives memory -> how much of it
    aten.empty.memory_format: lambda size, **_: size,
    aten.empty_like.default: lambda x, **_: x.shape,
    aten.new_empty.default: lambda _, size, **__: size,
}
VIEWS = {
    aten.alias.default,
    aten.as_strided.default,
    aten.detach.default,
    aten.expand.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
    aten._unsafe_view.default,
}


class Unrecordable(Exception):
    """The forward pass has a step that only torch can do; the text names it."""


class Entry(ctypes.Structure):
    """`struct tape_entry`."""

    _fields_ = (
        ("operation", ctypes.c_void_p),
        ("args", ctypes.c_void_p),
        ("is_small", ctypes.c_long),
    )


class TapeArgs(ctypes.Structure):
    """`struct tape_args`."""

    _fields_ = (("entries", ctypes.c_void_p), ("num_entries", ctypes.c_long))


class AddArgs(ctypes.Structure):
    """`struct add_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("size", ctypes.c_int64),
    )


class ScalarArgs(ctypes.Structure):
    """`struct scalar_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


class Tape:
    """What `forward` does, ready to be done again on what its inputs' buffers hold then.

    Raises `Unrecordable`. `forward` is called once, here, and nothing is computed yet.
    """

    def __init__(
        self, library: Library, forward: Callable[[], Tensor], memory: list[Tensor] | None = None
    ) -> None:
        """`memory`: buffers to use and to add to, shared by tapes that are never needed at once: an
        output is good until the next of them is replayed.
        """
        recorder = _Recorder(library, [] if memory is None else memory)
        with library.recorded_by(recorder.record), recorder:
            output = forward()
        self.output = _unheld(output, recorder.buffers)
        self._calls, self._buffers = recorder.calls, recorder.buffers  # C has their addresses
        entries = (Entry * len(self._calls))(
            *(Entry(op, ctypes.addressof(args), small) for op, args, small in self._calls)
        )
        self._entries = entries
        self._args = TapeArgs(ctypes.addressof(entries), len(entries))
        self._run, self._operation = library.run, library.operation("tape")

    def replay(self) -> Tensor:
        """The output of `forward`; the next replay writes to the same place, of whichever tape
        with the same memory."""
        self._run(self._operation, self._args)
        return self.output


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Stands between the forward pass and torch, and between it and the library."""

    def __init__(self, library: Library, memory: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._library, self._add = library, library.operation("add")
        self.calls: list[tuple[int, ctypes.Structure, bool]] = []
        self.buffers = memory

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # its compiler, which nobody uses here, would be imported: a second or two

    def record(self, operation: int, args: ctypes.Structure, is_small: bool) -> None:
        self.calls.append((operation, args, is_small))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in VIEWS:
            return func(*args, **kwargs)
        if func in EMPTY:
            like = args[0].dtype if isinstance(args[0], Tensor) else torch.get_default_dtype()
            return self._empty(EMPTY[func](*args, **kwargs), kwargs.get("dtype") or like)
        if func is aten.add.Tensor and not kwargs:
            return self._addition(*args)
        if func is aten.mul.Tensor and isinstance(args[1], float):
            return self._by_number("scale", *args)
        if func is aten.clamp.default and len(args) == 3:
            return self._by_number("clip", *args)
        if func._can_decompose():  # into what is known here
            with self:
                return func.decompose(*args, **kwargs)
        raise Unrecordable(str(func))

    def _empty(self, size: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Of the tape's memory: a piece that nobody holds any more, or a new one.

        A piece is reused in the order in which the operations are replayed, so what is in it then
        is no longer wanted. The smallest is taken that will do, and sizes are powers of two: what
        tapes of many shapes need together is a few times what the largest needs.
        """
        num_bytes = prod(size) * dtype.itemsize
        free = [b for b in self.buffers if len(b) >= num_bytes and _num_holders(b) == 1]
        buffer = min(free, key=len, default=None)
        if buffer is None:
            buffer = torch.empty(
                max(1 << (num_bytes - 1).bit_length(), ALIGNMENT), dtype=torch.uint8
            )
            self.buffers.append(buffer)
        return buffer[:num_bytes].view(dtype).view(size)

    def _addition(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape:
            raise Unrecordable(f"aten.add of {tuple(x.shape)} and {tuple(y.shape)}")
        out = self._empty(x.shape, torch.float32)
        args = AddArgs(
            address(x, torch.float32, *x.shape),
            address(y, torch.float32, *x.shape),
            out.data_ptr(),
            x.numel(),
        )
        self._library.run(self._add, args, is_small=x.numel() < SMALL_ADDITION)
        return out

    def _by_number(self, operation: str, x: Tensor, low: float, high: float = 0.0) -> Tensor:
        out = self._empty(x.shape, torch.float32)
        args = ScalarArgs(address(x, torch.float32, *x.shape), out.data_ptr(), x.numel(), low, high)
        small = x.numel() < SMALL_ADDITION
        self._library.run(self._library.operation(operation), args, is_small=small)
        return out


def _unheld(output: Tensor, buffers: Sequence[Tensor]) -> Tensor:
    """The same place, kept alive, but no tensor that `_num_holders` counts."""
    storage = output.untyped_storage()
    for buffer in buffers:
        if buffer.data_ptr() == storage.data_ptr():
            raw = (ctypes.c_char * len(buffer)).from_address(buffer.data_ptr())
            raw.memory = buffer  # type: ignore[attr-defined]  # what is made of `raw` keeps `raw`
            flat = torch.frombuffer(raw, dtype=output.dtype)
            return flat.as_strided(output.shape, output.stride(), output.storage_offset())
    return output


def _num_holders(buffer: Tensor) -> int:
    """How many tensors lie in this memory."""
    return torch._C._storage_Use_Count(buffer.untyped_storage()._cdata) - 1
