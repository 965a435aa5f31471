"""The 8-bit linear layer in C against a slow twin: int64 within groups, float64 over them."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.model.linear.test_int8 import vectors
from tests.model.test_invariance import ROWS, SHAPES, heights_that_differ, random_linear
from thirdeye.model.linear.choose_method import choose_linear, choose_quantization
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.int8_linear import GROUP, LinearArgs, PackArgs, pack
from thirdeye.model.placement import Placement

CPU = torch.device("cpu")
FP32 = Placement(torch.float32, CPU)


def round_weights(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [out, in] -> whole numbers int64 [out, in], scale [out]."""
    scale = weight.abs().amax(-1).clamp_min(1e-30) / 127
    return (weight / scale[:, None]).round().long(), scale


def twin(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """(y, how far rounding may take it), both float64 [T, out]: a sum a group, one after another.

    Each step is rounded to float32 as the kernel's is. (To float64 first: once in many millions
    that rounds the other way.)
    """
    w, w_scale = round_weights(weight)
    padding = -x.shape[1] % GROUP
    x = torch.nn.functional.pad(x, (0, padding)).unflatten(1, (-1, GROUP))  # [T, groups, GROUP]
    w = torch.nn.functional.pad(w, (0, padding)).unflatten(1, (-1, GROUP))
    largest = x.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    most = torch.tensor(127.0)  # a tensor: torch divides a number by a reciprocal and a product
    codes, unit = (x * (most / largest)).round().long(), largest.squeeze(-1) / 127
    y = torch.zeros(len(x), len(w))
    size = torch.zeros(len(x), len(w), dtype=torch.float64)
    for group in range(x.shape[1]):
        whole = codes[:, group] @ w[:, group].T  # [T, out], exact
        product = whole.double() * unit[:, group, None].double()
        y = (y.double() + product).float()
        size += product.abs()
    return (y * w_scale + bias).double(), size * w_scale * 2e-7 + bias.abs() * 1e-6 + 1e-30


def layer_of(native: Library, weight: Tensor, bias: Tensor | None) -> Linear:
    out_features, in_features = weight.shape
    layer = Linear(in_features, out_features, bias is not None, FP32, method=NativeInt8(native))
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    layer.finish()
    return layer


def check(native: Library, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    y = layer_of(native, weight, bias)(x)
    expected, error = twin(x, weight, bias)
    assert ((y.double() - expected).abs() <= error).all()
    assert (y == expected.float()).double().mean() > 0.999  # the bound is for the rare step


@pytest.mark.parametrize("shape", [*SHAPES, (33, 49), (31, 100), (4096, 97)])
def test_products_are_those_of_the_twin(native: Library, shape: tuple[int, int]) -> None:
    """Rows of very different size, an outlier, weights at the top of the range."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(shape[::-1], generator=generator), torch.randn(shape[1])
    weight[0] = 3.0
    x = vectors(70, shape[0])
    x[7] = 5.0
    check(native, x, weight, bias)


@draws(15, 60)
@given(
    num_tokens=st.integers(1, 70),
    in_features=st.integers(1, 200),
    out_features=st.integers(1, 200),
    seed=st.integers(0, 1000),
)
def test_any_shape(
    native: Library, num_tokens: int, in_features: int, out_features: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (
        torch.randn(shape, generator=generator)
        for shape in ((num_tokens, in_features), (out_features, in_features), (out_features,))
    )
    check(native, x, weight, bias)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_does_not_know_its_company(
    native: Library, shape: tuple[int, int], threads: int
) -> None:
    """Every number of rows, first, middle and last of a batch, gives a row the same bits."""
    layer = random_linear(shape, NativeInt8(native), torch.float32)
    x = vectors(101, shape[0])
    torch.set_num_threads(1)
    alone = torch.cat([layer(row) for row in x.split(1)])
    torch.set_num_threads(threads)
    assert torch.equal(layer(x), alone)
    assert heights_that_differ(layer, x) == []
    assert 1 in ROWS


def test_it_is_the_choice_without_vnni(native: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's kernels want it, ours do not."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert choose_quantization("auto", FP32) == "none"
    where = replace(FP32, native=native)
    assert choose_quantization("auto", where) == choose_quantization("stored", where) == "stored"
    assert choose_quantization("int8", where) == "int8"
    assert choose_quantization("none", where) == "none"
    assert isinstance(choose_linear(replace(where, quantize="int8")), NativeInt8)


def test_rounding_is_small(native: Library) -> None:
    layer = random_linear((576, 960), NativeInt8(native), torch.float32)
    exact = random_linear((576, 960), RowInvariant(torch.float32), torch.float32)
    x = torch.randn(8, 576, generator=torch.Generator().manual_seed(2))
    x[:, 3] = 50.0  # takes its accuracy from its own group alone
    error = (layer(x) - exact(x)).norm() / exact(x).norm()
    assert error < 0.02  # with one scale for all channels: 0.05


def test_no_bias_no_rows(native: Library) -> None:
    """The head has no bias, and no rows while only the middle of prompts is computed."""
    weight = torch.randn(32, 48)
    layer = layer_of(native, weight, None)
    assert layer(torch.empty(0, 48)).shape == (0, 32)
    x = torch.randn(3, 48)
    assert torch.equal(layer(x), layer_of(native, weight, torch.zeros(32))(x))


def test_zeros_and_numbers_too_small_to_divide_by(native: Library) -> None:
    layer = random_linear((96, 32), NativeInt8(native), torch.float32)
    x = torch.zeros(3, 96)
    x[1] = 1e-40
    x[2, 40] = 1.0
    y = layer(x)
    assert torch.equal(y[0], layer.bias)
    torch.testing.assert_close(y[1], layer.bias)
    assert torch.equal(y[2:], layer(x[2:]))


@pytest.mark.parametrize("broken", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channel", [0, 40, 95])
def test_a_broken_row_stays_broken_and_alone(native: Library, broken: float, channel: int) -> None:
    """The engine ends a request whose logits are no numbers: rounding must not make them some."""
    layer = random_linear((96, 50), NativeInt8(native), torch.float32)
    x = torch.randn(6, 96)
    x[1, channel] = broken
    y = layer(x)
    assert not y[1].isfinite().any()
    others = [0, 2, 3, 4, 5]
    assert torch.equal(y[others], layer(x[others]))


def test_a_row_of_weights_that_is_no_number(native: Library) -> None:
    weight = torch.randn(50, 96)
    weight[7, 3] = math.nan
    y = layer_of(native, weight, None)(torch.randn(4, 96))
    assert not y[:, 7].isfinite().any()
    assert y[:, torch.arange(50) != 7].isfinite().all()


def test_panels_hold_weights_where_they_are_read(native: Library) -> None:
    """[panel][4 channels][row of the panel][4], 128 added, zeros behind the last of both."""
    weight = torch.randn(50, 39)
    packed = pack(native, weight)
    whole, scale = round_weights(weight)
    assert torch.equal(packed.scales, scale)
    laid = packed.packed.view(2, 16, 48, 4).long() - 128
    rows = laid.permute(0, 2, 1, 3).reshape(96, 64)
    assert torch.equal(rows[:50, :39], whole)
    assert not rows[50:].any()
    assert not rows[:, 39:].any()


def test_what_c_does_not_expect_is_refused(native: Library) -> None:
    layer = random_linear((48, 32), NativeInt8(native), torch.float32)
    for x in (torch.zeros(3, 47), torch.zeros(48), torch.zeros(3, 48, dtype=torch.float64)):
        with pytest.raises(AssertionError):
            layer(x)
    wide = torch.randn(3, 96)
    assert torch.equal(layer(wide[:, ::2]), layer(wide[:, ::2].contiguous()))


def test_structs_are_those_of_the_header() -> None:
    """Pointers first, so that no padding hides between the fields."""
    for struct in (PackArgs, LinearArgs):
        sizes = [kind for _, kind in struct._fields_]
        pointers = [str(kind).count("c_void_p") for kind in sizes]
        assert pointers == sorted(pointers, reverse=True)


def test_the_floats_are_not_kept(native: Library) -> None:
    layer = random_linear((576, 960), NativeInt8(native), torch.float32)
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.numel() == 576 * 960
