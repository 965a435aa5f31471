"""The fp32 product in C: right, and each row the same in any company."""

import pytest
import torch

from tests.model.test_invariance import SHAPES, heights_that_differ, random_linear
from tests.model.tiny import CPU
from thirdeye.model.linear.choose_method import choose_head, choose_linear
from thirdeye.model.linear.native_float32 import NativeFloat32
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.float_linear import PANEL_ROWS, pack_floats
from thirdeye.model.placement import Placement


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7, 8, 9, 33])
@pytest.mark.parametrize("shape", [(1, 1), (5, 47), (32, 48), (33, 49), (1024, 96), (2500, 130)])
def test_a_product(native: Library, shape: tuple[int, int], rows: int) -> None:
    """Against 64 bits, for sizes that fill panels and blocks and that do not, with a bias."""
    layer = random_linear(shape, NativeFloat32(native), torch.float32)
    twin = torch.nn.Linear(*shape).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in twin.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(rows, shape[0], generator=generator)
    torch.testing.assert_close(layer(x).double(), twin(x.double()), atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [*SHAPES, (2500, 70)])
def test_rows_do_not_know_of_others(native: Library, shape: tuple[int, int], threads: int) -> None:
    torch.set_num_threads(threads)
    x = torch.randn(101, shape[0], generator=torch.Generator().manual_seed(1))
    layer = random_linear(shape, NativeFloat32(native), torch.float32)
    assert heights_that_differ(layer, x) == []


def test_threads_change_no_bit(native: Library) -> None:
    layer = random_linear((576, 960), NativeFloat32(native), torch.float32)
    x = torch.randn(17, 576)
    torch.set_num_threads(1)
    alone = layer(x)
    torch.set_num_threads(3)
    assert torch.equal(layer(x), alone)


def test_broken_numbers_stay_broken(native: Library) -> None:
    """In their own row; the padding of a panel is never multiplied into another's."""
    layer = random_linear((20, 7), NativeFloat32(native), torch.float32)
    x = torch.randn(9, 20)
    expected = layer(x)
    x[4, 3] = torch.nan
    y = layer(x)
    assert y[4].isnan().all()
    assert torch.equal(y[[0, 1, 2, 3, 5, 6, 7, 8]], expected[[0, 1, 2, 3, 5, 6, 7, 8]])


def test_panels_hold_every_row_and_zeros_behind_the_last(native: Library) -> None:
    weight = torch.randn(PANEL_ROWS + 5, 3)
    packed = pack_floats(native, weight).packed
    assert packed.shape == (2, 3, PANEL_ROWS)
    rows = packed.transpose(1, 2).reshape(-1, 3)
    assert torch.equal(rows[: PANEL_ROWS + 5], weight)
    assert not rows[PANEL_ROWS + 5 :].any()


def test_it_is_the_choice_for_fp32_where_kernels_are(native: Library) -> None:
    where = Placement(torch.float32, CPU, native=native)
    assert isinstance(choose_linear(where), NativeFloat32)
    assert isinstance(choose_head(where), NativeFloat32)
