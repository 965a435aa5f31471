"""What stands between a forward pass and torch, and between it and the library, to record both.

Every call of torch is looked at. Memory is given from the tape's own, views are let through, an
addition, a look-up and what one number does to all have kernels of ours; anything else is noted for
torch to do again (`torch_call.py`), or would be missing at replay, and is refused: `Unrecordable`.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from thirdeye.model.native.library import Library, address
from thirdeye.model.native.look_up import LookUpKernel
from thirdeye.model.native.tapes.torch_call import TorchCall, Unrecordable, record_call

SMALL_ADDITION = 1 << 14
ALIGNMENT = 64

aten = torch.ops.aten
EMPTY: dict[Any, Callable[..., Sequence[int]]] = {  # what gives memory -> how much of it
    aten.empty.memory_format: lambda size, **_: size,
    aten.empty_like.default: lambda x, **_: x.shape,
    aten.new_empty.default: lambda _, size, **__: size,
}

# The same numbers, though these do not say so.
SAME = {aten._unsafe_view.default, aten.detach_.default}
READS = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}

Call = tuple[int, ctypes.Structure, bool]  # an operation of the library, its arguments, is it small


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


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """`steps` in their order, in memory that is `buffers` or `kept`."""

    def __init__(self, library: Library, buffers: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._library, self._add = library, library.operation("add")
        self._look_up = LookUpKernel(library)
        self.steps: list[Call | TorchCall] = []
        self.buffers = buffers
        self.kept: list[Tensor] = []  # of others, perhaps nobody's any more

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # its compiler, which nobody uses here, would be imported: a second or two

    def record(self, operation: int, args: ctypes.Structure, is_small: bool) -> None:
        self.steps.append((operation, args, is_small))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in EMPTY:
            like = args[0].dtype if isinstance(args[0], Tensor) else torch.get_default_dtype()
            return self._empty(EMPTY[func](*args, **kwargs), kwargs.get("dtype") or like)
        if func is aten.add.Tensor and not kwargs and _are_plain(*args):
            return self._addition(*args)
        if func is aten.index_select.default and _is_table(*args):
            return self._rows(*args)
        if func is aten.embedding.default and _is_table(args[0], 0, args[1]):
            return self._rows(args[0], 0, args[1])
        if func is aten.mul.Tensor and _are_plain(args[0]) and isinstance(args[1], float):
            return self._by_number("scale", *args)
        if func is aten.clamp.default and _are_plain(args[0]) and _are_numbers(*args[1:]):
            return self._by_number("clip", *args)
        if func._can_decompose():  # into what is known here
            with self:
                return func.decompose(*args, **kwargs)
        if _is_view(func):
            return func(*args, **kwargs)
        step, result = record_call(func, args, kwargs, self._empty_as, self._unheld)
        self.steps.append(step)
        return result

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

    def _empty_as(self, form: Tensor) -> Tensor:
        """The same, with the shape, the strides and the type of `form`."""
        steps = zip(form.shape, form.stride(), strict=True)
        length = 1 + sum((size - 1) * stride for size, stride in steps) if form.numel() else 0
        return self._empty((length,), form.dtype).as_strided(form.shape, form.stride())

    def _unheld(self, tensor: Tensor) -> Tensor:
        return unheld(tensor, self.buffers)

    def _addition(self, x: Tensor, y: Tensor) -> Tensor:
        out = self._empty(x.shape, torch.float32)
        args = AddArgs(self._address(x), self._address(y), out.data_ptr(), x.numel())
        self._library.run(self._add, args, is_small=x.numel() < SMALL_ADDITION)
        return out

    def _by_number(self, operation: str, x: Tensor, low: float, high: float = 0.0) -> Tensor:
        out = self._empty(x.shape, torch.float32)
        args = ScalarArgs(self._address(x), out.data_ptr(), x.numel(), low, high)
        small = x.numel() < SMALL_ADDITION
        self._library.run(self._library.operation(operation), args, is_small=small)
        return out

    def _rows(self, table: Tensor, dim: int, ids: Tensor) -> Tensor:
        rows = self._empty((*table.shape[:dim], len(ids), *table.shape[dim + 1 :]), table.dtype)
        self.kept += [self._unheld(table), self._unheld(ids)]
        self._look_up.as_it_is(table, dim, ids, rows)
        return rows

    def _address(self, x: Tensor) -> int:
        self.kept.append(self._unheld(x))
        return address(x, torch.float32, *x.shape)


class RefuseReads(TorchFunctionMode):
    """What reads numbers out of a tensor past `Recorder`: none have been computed yet."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in READS:
            raise Unrecordable(f"Tensor.{func.__name__}")
        return func(*args, **(kwargs or {}))


def _is_view(func: Any) -> bool:
    """Whether it gives what is there in another form: done once, now."""
    if func is aten.lift_fresh.default:  # of a tensor that Python makes now: nobody else holds it
        return False
    return func in SAME or func.is_view


def _are_plain(*tensors: Any) -> bool:
    """Whether our kernels go through them element by element: dense fp32, of one shape."""
    return all(
        isinstance(x, Tensor)
        and x.dtype == torch.float32
        and x.is_contiguous()
        and x.shape == tensors[0].shape
        for x in tensors
    )


def _is_table(table: Tensor, dim: int, ids: Tensor) -> bool:
    """Whether our kernel finds its rows, or slices along `dim`, by these ids."""
    is_dense = table.is_contiguous() and ids.is_contiguous() and table.numel() > 0
    return is_dense and dim >= 0 and ids.dtype == torch.int64 and ids.dim() == 1


def _are_numbers(*bounds: Any) -> bool:
    return len(bounds) == 2 and all(isinstance(bound, float | int) for bound in bounds)


def unheld(tensor: Tensor, buffers: Sequence[Tensor]) -> Tensor:
    """The same place, kept alive, but no tensor that `_num_holders` counts."""
    storage = tensor.untyped_storage()
    for buffer in buffers:
        if buffer.data_ptr() == storage.data_ptr():
            raw = (ctypes.c_char * len(buffer)).from_address(buffer.data_ptr())
            raw.memory = buffer  # type: ignore[attr-defined]  # what is made of `raw` keeps `raw`
            flat = torch.frombuffer(raw, dtype=torch.uint8).view(tensor.dtype)
            return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return tensor


def _num_holders(buffer: Tensor) -> int:
    """How many tensors lie in this memory."""
    return torch._C._storage_Use_Count(buffer.untyped_storage()._cdata) - 1
