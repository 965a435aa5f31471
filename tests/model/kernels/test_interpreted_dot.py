"""The product that stands in for a GPU's tile: right, and no row knows of another."""

import numpy as np
import pytest

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from triton.runtime.interpreter import interpreter_builder

from tests.oracles.interpreter import interpreted_dot
from tests.oracles.interpreter.interpreted_dot import fixed_order_matmul


def test_the_interpreter_uses_it() -> None:
    assert interpreter_builder.create_dot.__func__ is interpreted_dot._create_dot


def test_it_is_the_product_and_a_row_is_its_own() -> None:
    """Two matrices at once; every number of rows gives the bits that a row has alone."""
    draw = np.random.default_rng(0).standard_normal
    a, b = draw((2, 33, 70)).astype(np.float32), draw((2, 70, 48)).astype(np.float32)
    whole = fixed_order_matmul(a, b, np.float32)
    np.testing.assert_allclose(whole, a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-4)
    for rows in range(1, 33):
        assert (fixed_order_matmul(a[:, :rows], b, np.float32) == whole[:, :rows]).all(), rows


def test_halves_are_summed_in_the_precision_that_is_asked_for() -> None:
    a, b = np.full((1, 4096), 1, np.float16), np.full((4096, 1), 1, np.float16)
    assert fixed_order_matmul(a, b, np.float32).item() == 4096  # in halves it would stop at 2048
