"""silu(gate) * up in C: the CPU's twin of `model/kernels/silu_mul.py`."""

import ctypes

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

SMALL = 1 << 13  # numbers: less than 10 us of work


class Args(ctypes.Structure):
    """`struct silu_mul_args`."""

    _fields_ = (
        ("gate_up", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("num_rows", ctypes.c_int),
        ("size", ctypes.c_int),
    )


class SiluMulKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("silu_mul")

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """gate_up [T, 2 * intermediate_size], gate first -> [T, intermediate_size]."""
        gate_up = gate_up.contiguous()
        num_rows, width = gate_up.shape
        output = gate_up.new_empty(num_rows, width // 2)
        args = Args(
            gate_up=address(gate_up, torch.float32, num_rows, width),
            output=output.data_ptr(),
            num_rows=num_rows,
            size=width // 2,
        )
        self._run(self._operation, args, is_small=num_rows * width < SMALL)
        return output
