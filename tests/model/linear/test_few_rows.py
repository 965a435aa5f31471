"""The product of few rows in triton's interpreter, with all that may lie around it, against the
plain parts it stands for; and each row's bits its own."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from tests.model.linear.few_rows_twins import CASES, FORMATS, Case, check_few_rows, operands
from tests.model.tiny import CPU
from thirdeye.model.config import Activation
from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.kernels.products.few_rows_matmul import FewRowsMatmul
from thirdeye.model.placement import Placement

WHERE = Placement(torch.float32, CPU, is_fused=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_lies_around_it(case: Case) -> None:
    check_few_rows(case, WHERE)


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    """A gate behind a norm, and the stream behind a product."""
    for case in (
        Case(kind, 3, 256, 20, has_norm=True, has_delta=True, activation=Activation.SILU),
        Case(kind, 2, 192, 18, has_residual=True, has_bias=True),
    ):
        check_few_rows(case, WHERE)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_rows_bits_are_its_own(kind: str) -> None:
    """For 1 row to FEW_ROWS, at any place among them, by wide tiles and by narrow ones."""
    case = Case(kind, FEW_ROWS, 320, 40, has_norm=True, has_delta=True, has_residual=True)
    given = operands(case, WHERE)
    around = given.around
    assert around.delta is not None
    assert around.residual is not None
    wide, narrow = FewRowsMatmul(0), FewRowsMatmul(10**6)
    assert (wide.cut(40, 2, 0, False).columns, narrow.cut(40, 2, 0, False).columns) == (32, 16)
    expected = wide(given.x, given.weight, None, around)
    for multiply in (wide, narrow):
        for rows in (slice(0, 1), slice(7, 8), slice(2, 5), slice(0, 8)):
            parts = {"delta": around.delta[rows], "residual": around.residual[rows]}
            own = multiply(given.x[rows], given.weight, None, replace(around, **parts))
            assert torch.equal(own[0], expected[0][rows])
            assert torch.equal(own[1], expected[1][rows])


def test_no_rows() -> None:
    multiply = FewRowsMatmul(1)
    assert multiply(torch.empty(0, 8), torch.ones(3, 8), None)[0].shape == (0, 3)


def test_half_precision_without_a_norm() -> None:
    """Sums of halves are wider than they are."""
    x, weight = torch.full((2, 4096), 1.0).half(), torch.ones(3, 4096).half()
    assert torch.equal(
        FewRowsMatmul(1)(x, weight, None)[0], F.linear(x.float(), weight.float()).half()
    )


def test_a_sum_of_bits_is_of_the_layer_alone() -> None:
    """The cut never depends on the number of rows; a gate has two tiles, and so narrow ones."""
    cut = FewRowsMatmul(132).cut
    assert cut(4096, 2, 0, False).columns == 16  # an 8B model's output and down
    assert cut(128256, 2, 0, False).columns == 32  # its head
    assert cut(14336, 2, 0, True).columns == 16
    assert [cut(4096, size, 0, False).inputs for size in (1, 2, 4)] == [128, 64, 32]
    assert cut(4096, 1, 32, False).inputs == 32
