"""Weights rounded to blocks when a model is loaded: read back by the public reader, and close."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.model.native.products.stored_twin import product, tensor_of
from tests.model.tiny import LLAMA, change, random_model
from thirdeye.model.linear.choose_method import choose_head, choose_linear, choose_quantization
from thirdeye.model.linear.linear import Linear
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.round_blocks import ROUND, round_blocks
from thirdeye.model.placement import Placement
from thirdeye.server.load.engine_info import linear_methods

FP32 = Placement(torch.float32, torch.device("cpu"))


def read(blocks: Tensor, name: str) -> Tensor:
    """By ggml's own package."""
    return torch.from_numpy(gguf.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[name]))


def weights(rows: int, width: int, seed: int = 0) -> Tensor:
    """Some rows larger, some far from zero, an outlier."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, width, generator=generator) * torch.logspace(-3, 1, rows)[:, None]
    w[1] += 0.1
    w[2, 7] = 3.0
    return w


def squared_error(blocks: Tensor, name: str, weight: Tensor) -> Tensor:
    """Of each row, against its size."""
    return (read(blocks, name) - weight).square().sum(1) / weight.square().sum(1)


def plainly(weight: Tensor, name: str) -> Tensor:
    """Read back from blocks whose scales are those of the largest number, or of the range: ggml's
    package has this for the first two, of Q4_K this is the line that its search starts with."""
    if name != "Q4_K":
        kind = gguf.GGMLQuantizationType[name]
        return torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))
    groups = weight.view(-1, 8, 32)
    minimum = -groups.amin(2).clamp_max(0)
    scale = (groups.amax(2) + minimum) / 15
    of_block = []
    for values in (scale, minimum):
        unit = (values.amax(1, keepdim=True) / 63).half().float()
        times = (values / unit).nan_to_num(0).round().clamp(0, 63)
        of_block.append((unit * times)[..., None])
    scale, minimum = of_block
    q = ((groups + minimum) / scale).nan_to_num(0).round().clamp(0, 15)
    return (scale * q - minimum).view(weight.shape)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_no_worse_than_ggmls_own_rounding(name: str) -> None:
    weight = weights(40, 512)
    plain = torch.from_numpy(gguf.quantize(weight.numpy(), gguf.GGMLQuantizationType[name]))
    ours = squared_error(round_blocks(weight, name), name, weight)
    theirs = squared_error(plain, name, weight)
    assert (ours <= theirs * 1.001).all()
    assert ours.mean() <= theirs.mean() * (0.93 if name == "Q4_0" else 1.0)


def test_a_minimum_and_finer_scales_are_closer() -> None:
    weight = weights(40, 512)
    errors = {name: squared_error(round_blocks(weight, name), name, weight) for name in ROUND}
    assert errors["Q8_0"].mean() < 1e-4
    assert errors["Q4_K"].mean() < 0.85 * errors["Q4_0"].mean()
    assert errors["Q4_K"].max() < 0.01


@draws(8, 20)
@example(name="Q4_K", scale=1e-3, shift=50.0, seed=0)  # a group's numbers are all the same
@given(
    name=st.sampled_from(list(ROUND)),
    scale=st.sampled_from([0.0, *(10.0**e for e in range(-40, 31))]),
    shift=st.sampled_from([0.0, 1e-3, -2.0, 50.0, -50.0, 6e4, -6e4, 5e5, -4e6, 8e6, 1e20]),
    seed=st.integers(0, 100),
)
def test_any_weights_are_near_or_refused(name: str, scale: float, shift: float, seed: int) -> None:
    """Zeros, numbers too small for a half's scale, all of one sign: a block's mean error is below a
    step of its range, as each single one is with plain scales, and no more than with these."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 256, generator=generator) * scale + shift
    largest = ROUND[name].largest
    if weight.abs().max() > largest:
        with pytest.raises(ValueError, match=f"blocks of {name.lower()} here, which hold"):
            round_blocks(weight, name)
        return
    back = read(round_blocks(weight, name), name)
    with np.errstate(all="ignore"):  # its inverse of a scale below 1e-38 is no number
        plain = plainly(weight, name)
    blocks = weight.double().view(-1, ROUND[name].size)
    ours, theirs = ((x.view_as(blocks) - blocks).square().mean(1).sqrt() for x in (back, plain))
    assert (ours <= theirs * (1 + 1e-5)).all()
    steps = {"Q8_0": 127, "Q4_0": 8, "Q4_K": 6}[name]
    tiny = largest / 65504 * 2**-25  # half of float16's least, as often as a block can hold it
    bound = 1.1 * blocks.abs().amax(1) / steps + (16 * tiny if name == "Q4_K" else tiny)
    assert (ours <= bound).all()


@pytest.mark.parametrize("name", list(ROUND))
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_that_blocks_hold(name: str, sign: int) -> None:
    largest = ROUND[name].largest
    weight = torch.linspace(-0.5, 1, 256)[None] * largest * sign
    back = read(round_blocks(weight, name), name)
    assert ((back - weight).abs() <= 1.1 * largest / {"Q4_K": 12}.get(name, 8)).all()
    for beyond in (largest * 1.001 * sign, torch.inf * sign):
        weight[0, 3] = beyond
        with pytest.raises(ValueError, match=rf"up to {largest:.0f}, got .*: use '--quantize int8"):
            round_blocks(weight, name)


def test_a_row_that_is_no_number_stays_none() -> None:
    weight = torch.randn(4, 256)
    weight[1, 5] = torch.nan
    for name in ROUND:
        back = read(round_blocks(weight, name), name)
        assert not back[1, :32].isfinite().all()
        assert back[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("name", list(ROUND))
def test_a_layer_multiplies_by_them(native: Library, name: str) -> None:
    where = replace(FP32, quantize=name.lower(), native=native)
    layer = Linear(512, 50, False, where)
    weight = weights(50, 512)
    layer.weight.copy_(weight)
    layer.finish()
    x = torch.randn(3, 512)
    stored = tensor_of(name, round_blocks(weight, name).numpy())
    np.testing.assert_array_equal(layer(x).numpy(), product(x.numpy(), stored))


def test_a_model_in_four_bits_has_a_head_of_eight(native: Library) -> None:
    config = change(LLAMA, hidden_size=256, intermediate_size=512, head_dim=64)
    for name, linear in (("q4_0", "Q4_0, Q8_0"), ("q4_k", "Q4_K, Q8_0"), ("q8_0", "Q8_0")):
        model = random_model(config, quantize=name, native=native)
        assert linear_methods(model) == [f"NativeStored({linear})"]


def test_it_is_for_kernels_on_a_cpu_and_whole_blocks(native: Library) -> None:
    where = replace(FP32, native=native)
    for name in ("q4_0", "q4_k", "q8_0"):
        assert choose_quantization(name, where) == name
        with pytest.raises(ValueError, match=f"'--quantize' {name} needs '--dtype' float32, a CPU"):
            choose_quantization(name, FP32)
    k = replace(where, quantize="q4_k")
    with pytest.raises(ValueError, match="q4_k needs inputs in multiples of 256, got 576: use"):
        Linear(576, 8, False, k, method=choose_linear(k))
    assert choose_head(k) is not None
