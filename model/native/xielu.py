"""xIELU in C: the twin of `XIELU` in `model/parts/activations.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.activate import SMALL
from thirdeye.model.native.library import Library, address


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
