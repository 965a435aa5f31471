"""The arithmetic that the kernels share, number by number."""

import ctypes

import pytest
import torch
from torch import Tensor

from tests.model.native.small import LEVEL_NAMES, small_library
from thirdeye.model.native.library import Library

EXP = """
#include "floats.h"
#include "pool.h"
struct exp_args {const float *x; float *y; int count;};
void exp_all(const struct exp_args *args, struct team *team) {
    for (int i; (i = WIDTH * next_item(team)) < args->count;)
        f_store(args->y + i, exp16(f_load(args->x + i)));
}
"""


class ExpArgs(ctypes.Structure):
    _fields_ = (("x", ctypes.c_void_p), ("y", ctypes.c_void_p), ("count", ctypes.c_int))


SHARED = ("pool.h", "pool.c", "floats.h", "simd.h", "simd_avx512.h", "simd_avx2.h", "simd_x86.h")


@pytest.fixture(scope="module", params=LEVEL_NAMES)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return small_library(tmp_path_factory.mktemp("library"), EXP, *SHARED, isa=request.param)


def exp16(library: Library, x: Tensor) -> Tensor:
    assert len(x) % 16 == 0
    y = torch.empty_like(x)
    args = ExpArgs(x.data_ptr(), y.data_ptr(), len(x))
    library.run(library.operation("exp_all"), args)
    return y


def test_exp_is_within_its_bound(library: Library) -> None:
    """2e-7 of the result, wherever that is a normal number."""
    x = torch.cat((torch.linspace(-87, 88, 1 << 20), torch.linspace(-1, 1, 1 << 18)))
    exact = x.double().exp()
    error = (exp16(library, x) - exact).abs() / exact
    assert error.max() < 2e-7


def test_exp_of_the_extremes(library: Library) -> None:
    """Exactly 1, exactly 0 for what is hidden, infinity, and a NaN is not swallowed."""
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([0.0, -0.0, -inf, inf, nan, -104.0, -1e30, 1e30, 89.0, *[0.0] * 7])
    y = exp16(library, x)
    assert y[:4].tolist() == [1.0, 1.0, 0.0, inf]
    assert y[4].isnan()
    assert y[5:9].tolist() == [0.0, 0.0, inf, inf]
