"""An MLP's activation in C, times its partner where the MLP is gated; and xIELU, which is never."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.config import Activation
from thirdeye.model.native.library import Library, address

SMALL = 1 << 13  # numbers: less than 10 us of work
KINDS = {  # `enum kind`
    Activation.SILU: 0,
    Activation.GELU: 1,
    Activation.GELU_TANH: 2,
    Activation.RELU: 3,
    Activation.RELU2: 4,
    Activation.CLAMPED_SWIGLU: 5,
}


class ActivateArgs(ctypes.Structure):
    """`struct activate_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("num_rows", ctypes.c_int),
        ("size", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("is_gated", ctypes.c_int),
        ("partner", ctypes.c_void_p),
    )


class ActivateKernel:
    def __init__(self, library: Library, activation: Activation, *, is_gated: bool) -> None:
        self._run, self._operation = library.run, library.operation("activate")
        self._kind, self._is_gated = KINDS[activation], is_gated

    def __call__(self, x: Tensor, partner: Tensor | None = None) -> Tensor:
        """x [T, size], or if it is gated [T, 2 * size] with the gates first -> [T, size].
        `partner`: [T, size], by which what is not gated is multiplied."""
        x = x.contiguous()
        num_rows, width = x.shape
        size = width // 2 if self._is_gated else width
        output = x.new_empty(num_rows, size)
        args = ActivateArgs(
            x=address(x, torch.float32, num_rows, width),
            output=output.data_ptr(),
            num_rows=num_rows,
            size=size,
            kind=self._kind,
            is_gated=self._is_gated,
        )
        if partner is not None:
            assert not self._is_gated
            args.partner = address(partner, torch.float32, num_rows, size)
        self._run(self._operation, args, is_small=num_rows * width < SMALL)
        return output


class XIELUArgs(ctypes.Structure):
    """`struct xielu_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("above", ctypes.c_float),
        ("below", ctypes.c_float),
        ("beta", ctypes.c_float),
        ("eps", ctypes.c_float),
        ("num_rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class XIELUKernel:
    """The twin of `XIELU` in `model/parts/activations.py`."""

    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("xielu")

    def __call__(self, x: Tensor, above: float, below: float, beta: float, eps: float) -> Tensor:
        """x [T, size] -> [T, size]; the numbers are those of the formula, in its order."""
        x = x.contiguous()
        num_rows, size = x.shape
        output = torch.empty_like(x)
        args = XIELUArgs(
            x=address(x, torch.float32, num_rows, size),
            output=output.data_ptr(),
            above=above,
            below=below,
            beta=beta,
            eps=eps,
            num_rows=num_rows,
            size=size,
        )
        self._run(self._operation, args, is_small=x.numel() < SMALL)
        return output
