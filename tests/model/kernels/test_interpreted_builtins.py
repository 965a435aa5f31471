"""A kernel's functions in the interpreter: patched for the kernel, and no longer."""

import pytest

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

import torch
import triton
import triton.language as tl


@triton.jit
def _twice(x):
    return tl.where(x > 0, x + x, x.to(tl.float32) * 2)


@triton.jit
def _doubled(out, x):
    at = tl.arange(0, 4)
    tl.store(out + at, _twice(_twice(tl.load(x + at))))


def test_functions_compute_and_leave_the_language_as_it_was() -> None:
    for _ in range(2):
        out, x = torch.zeros(4), torch.tensor([1.0, -2.0, 0.0, 3.0])
        _doubled[(1,)](out, x)
        assert torch.equal(out, 4 * x)
        assert tl.core.is_builtin(tl.load)
        assert tl.core.is_builtin(tl.tensor.to)
        with pytest.raises(ValueError, match="_semantic"):
            tl.arange(0, 4)
