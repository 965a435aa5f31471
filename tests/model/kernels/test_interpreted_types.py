"""Types and shapes that the interpreter remembers: those that triton's own constructors make."""

import numpy as np
import pytest

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

import triton
import triton.language as tl
from triton.runtime import interpreter

from tests.oracles.interpreter import interpreted_types

SCALARS = [getattr(tl, name) for name in ("int1", "int8", "uint32", "int64", "float16", "bfloat16")]
TYPES = [*SCALARS, *(tl.pointer_type(scalar, const=c) for scalar in SCALARS for c in (False, True))]


def test_the_interpreter_uses_them() -> None:
    assert interpreter._get_np_dtype is interpreted_types._dtype_of
    assert tl.core.block_type.__init__ is interpreted_types._block_type
    assert tl.tensor.__init__ is interpreted_types._tensor


@pytest.mark.parametrize("shape", [[1], [4], [2, 8], [8, 2]])
@pytest.mark.parametrize("scalar", TYPES, ids=str)
def test_they_are_what_triton_makes(scalar: tl.dtype, shape: list[int]) -> None:
    for _ in range(2):  # made, and remembered
        block = tl.block_type(scalar, shape)
        theirs = object.__new__(tl.block_type)
        interpreted_types._init_block_type(theirs, scalar, shape)
        assert vars(block) == vars(theirs)
        assert interpreter._get_np_dtype(block) == interpreted_types._get_np_dtype(block)
        assert interpreter._get_np_dtype(scalar) == interpreted_types._get_np_dtype(scalar)
        for type_ in (scalar, block):
            tensor, as_theirs = tl.tensor(None, type_), object.__new__(tl.tensor)
            interpreted_types._init_tensor(as_theirs, None, type_)
            assert vars(tensor).keys() == vars(as_theirs).keys()
            assert tensor.numel.value == as_theirs.numel.value
            assert type(tensor.shape) is type(as_theirs.shape)
            assert [size.value for size in tensor.shape] == [s.value for s in as_theirs.shape]
            assert (tensor.type, tensor.dtype) == (as_theirs.type, as_theirs.dtype)


@triton.jit
def _sums(out, a, b):
    tl.store(out, a + b)
    tl.store(out + 1, a - b)
    tl.store(out + 2, a * b)


def test_sums_of_integers_are_the_ones_of_32_bits() -> None:
    import torch

    out = torch.zeros(3, dtype=torch.int32)
    _sums[(1,)](out, 2**31 - 1, 2)
    wrapped = np.array([2**31 + 1, 2**31 - 3, 2**32 - 2], np.uint64).astype(np.uint32)
    assert out.numpy().tolist() == wrapped.view(np.int32).tolist()
