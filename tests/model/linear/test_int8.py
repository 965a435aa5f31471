"""8-bit weights against a slow exact twin: integers in int64, one rounding after another."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tests.model.test_invariance import ROWS, SHAPES, random_linear
from tests.processor import needs_int8
from thirdeye.model.linear import int8
from thirdeye.model.linear.choose_method import choose_quantization
from thirdeye.model.linear.int8 import Int8, quantize_weight, split_rows
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.row_invariant import RowInvariant
from thirdeye.model.placement import Placement

CPU = torch.device("cpu")
FP32 = Placement(torch.float32, CPU)


def twin(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What `Int8` promises, in int64: nothing here is fast, nothing can overflow."""
    w_scale = weight.abs().amax(-1, keepdim=True) / 127
    w_whole = (weight / w_scale).round().long()
    unit = x.abs().amax(-1, keepdim=True) * (1 / 32512)
    whole = (x / unit + (128 * 256 + 128 + 0.5)).floor().long() - (128 * 256 + 128)
    upper = (whole + 128).div(256, rounding_mode="floor")
    lower = whole - 256 * upper
    assert upper.abs().max() <= 127
    assert lower.min() >= -128
    assert lower.max() <= 127
    high, low = (
        (digit @ w_whole.T).float() * w_scale.flatten() for digit in (upper, lower)
    )  # [T, out]
    return (low + 256 * high) * unit + bias


def vectors(rows: int, width: int) -> Tensor:
    """Rows of very different size, one with a huge outlier."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, width, generator=generator)
    x *= 10.0 ** torch.randint(-6, 6, (rows, 1), generator=generator)
    x[rows // 2, 0] = 1e4 * x[rows // 2].abs().max()
    return x


@needs_int8
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_the_exact_twin(shape: tuple[int, int], threads: int) -> None:
    """Equal bit for bit, for every number of rows, wherever they lie: no row knows of another."""
    torch.set_num_threads(threads)
    layer = Linear(*shape, True, FP32, method=Int8())
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(shape[::-1], generator=generator), torch.randn(shape[1])
    weight[0] = 3.0  # all at the top of the range: the largest sums there are
    layer.load_state_dict({"weight": weight, "bias": bias})
    layer.finish()
    x = vectors(101, shape[0])
    x[7] = 5.0
    expected = twin(x, weight, bias)
    for rows in ROWS:
        for start in (0, 1, len(x) - rows):
            part = slice(start, start + rows)
            assert torch.equal(layer(x[part]), expected[part]), (rows, start)


@needs_int8
def test_rounding_is_small() -> None:
    """Against the product in fp64: half a step of 8 bits in the weights, of 16 in the vector."""
    layer = random_linear((576, 960), Int8(), torch.float32)
    exact = random_linear((576, 960), RowInvariant(torch.float32), torch.float32)
    x = torch.randn(8, 576, generator=torch.Generator().manual_seed(2))
    error = (layer(x) - exact(x)).norm() / exact(x).norm()
    assert error < 0.01


def test_a_row_of_zeros_is_zero_and_its_neighbours_are_not_touched() -> None:
    layer = random_linear((48, 32), Int8(), torch.float32)
    x = torch.randn(3, 48)
    x[1] = 0
    assert torch.equal(layer(x)[1], layer.bias)
    assert torch.equal(layer(x)[2:], layer(x[2:]))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_row_stays_broken_and_alone(broken: float) -> None:
    """The engine ends a request whose logits are no numbers: rounding must not make them some."""
    layer = random_linear((48, 32), Int8(), torch.float32)
    x = torch.randn(3, 48)
    x[1, 5] = broken
    y = layer(x)
    assert not y[1].isfinite().any()
    assert torch.equal(y[[0, 2]], layer(x[[0, 2]]))


def test_no_rows_at_all() -> None:
    """The head's input while only the middle of prompts is computed."""
    layer = random_linear((48, 32), Int8(), torch.float32)
    assert layer(torch.empty(0, 48)).shape == (0, 32)


@pytest.mark.parametrize("is_signed", [True, False])
def test_digits(is_signed: bool) -> None:
    """The two digits of a row's numbers in base 256, the lower ones first."""
    x = torch.tensor([[32512.0, -32512.0, 0.0, 128.0, 127.0, -129.0]])
    digits, unit = split_rows(x, is_signed)
    assert unit.item() == pytest.approx(1)
    assert digits.dtype == (torch.int8 if is_signed else torch.uint8)
    zero = 0 if is_signed else 128
    assert (digits[1, 0].int() - zero).tolist() == [127, -127, 0, 1, 0, -1]
    assert (digits[0, 0].int() - zero).tolist() == [0, 0, 0, -128, 127, 127]


def test_large_sums_are_exact_without_amx() -> None:
    """This processor's own way is above; oneDNN can be held to the instructions of an older one."""
    code = (
        "import gc; gc.disable();"
        "from thirdeye.model.loading.import_torch import import_torch; import_torch();"
        "import torch; from thirdeye.model.linear.int8 import *;"
        "w = quantize_weight(torch.full((16, 3073), 3.0));"
        "d = torch.full((17, 3073), 1, dtype=torch.int8);"
        "d = d if w.is_signed else (d.int() + 128).to(torch.uint8);"
        "exact = 3073 * 127 * w.scale;"
        "print(all(torch.equal(w.multiply(d[:n]), exact.expand(n, 16)) for n in (1, 5, 17)))"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}  # noqa: TID251 (a child wants a whole one)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == "True\n", done.stderr


def test_the_floats_are_not_kept() -> None:
    layer = random_linear((576, 960), Int8(), torch.float32)
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert layer.weight.dtype == torch.int8
    assert layer.weight.is_mkldnn


def test_auto_is_int8_where_it_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(int8, "sums_are_exact", lambda: True)
    assert choose_quantization("auto", FP32) == "int8"
    assert choose_quantization("int8", FP32) == "int8"
    assert choose_quantization("none", FP32) == "none"
    assert choose_quantization("auto", Placement(torch.bfloat16, CPU)) == "none"
    monkeypatch.setattr(int8, "sums_are_exact", lambda: False)
    assert choose_quantization("auto", FP32) == "none"


def test_refusals_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"'--quantize' int8 needs .*use '--quantize none'"):
        choose_quantization("int8", Placement(torch.bfloat16, CPU))
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ValueError, match="a CPU with VNNI"):
        choose_quantization("int8", FP32)
    with pytest.raises(ValueError, match=r"66,311 products exactly, got 70,000"):
        Linear(70_000, 1, False, FP32, method=Int8())


@needs_int8
def test_saturating_sums_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a processor does whose instruction adds pairs in 16 bits."""
    assert int8.sums_are_exact()
    honest = int8.Int8Weight.multiply
    monkeypatch.setattr(int8.Int8Weight, "multiply", lambda self, x: honest(self, x).clamp(max=3e4))
    assert not int8.sums_are_exact()


def test_weights_are_rounded_row_by_row() -> None:
    weight = quantize_weight(torch.tensor([[1.0, -0.5], [0.0, 0.0], [1e-3, 254e-3]]))
    assert weight.scale.tolist() == pytest.approx([1 / 127, 1e-30 / 127, 2e-3])
