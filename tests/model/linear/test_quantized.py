"""Quantized weights for a GPU: kernels in triton's interpreter, formats, refusals, whole models."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import also_at_night, count, draws
from tests.model.linear.quantized_twins import METHODS, check_product, kept, make_layer
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, change, make_cache, random_model
from thirdeye.model.config import ModelConfig
from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.kernels.products import quantized_matmul
from thirdeye.model.linear.choose_method import choose_head, choose_linear, choose_quantization
from thirdeye.model.linear.fp8 import Fp8
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.rounded import (
    FP8,
    group_size,
    round_to_fp8,
    round_to_int4,
    round_to_int8,
    unpack,
)
from thirdeye.model.linear.weight_only import (
    DENSE_ROWS,
    WeightOnlyInt4,
    WeightOnlyInt8,
    plain_product,
)
from thirdeye.model.placement import Placement

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

CUDA = torch.device("cuda")
FP32, PLAIN = Placement(torch.float32, CPU, is_fused=True), Placement(torch.float32, CPU)
NAMES = list(METHODS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [0, 1, 3, 16, 17, 40, 70])
def test_products(name: str, rows: int) -> None:
    """Few rows and many, within a tile of outputs and over its edge."""
    check_product(name, rows or 1, 128, 72, FP32)
    layer, _ = make_layer(name, 128, 72, True, FP32)
    assert layer(torch.empty(0, 128)).shape == (0, 72)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("in_features", "out_features"), [(32, 1), (64, 130), (160, 50), (576, 16)]
)
def test_shapes(name: str, in_features: int, out_features: int) -> None:
    """Groups of 32 and 64, rows that end within a tile, outputs that fill none."""
    check_product(name, 3, in_features, out_features, FP32, bias=False)
    check_product(name, 20, in_features, out_features, FP32)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_inputs_are_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where few outputs make too few tiles: the same sums, with the bias once."""
    monkeypatch.setattr("thirdeye.model.linear.weight_only.num_multiprocessors", lambda device: 132)
    for in_features in (1024, 2048 + 128 * 3):
        check_product(name, 2, in_features, 48, FP32)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_half_precision(name: str) -> None:
    """In fp16: the interpreter multiplies bf16's bits as if they were whole numbers."""
    check_product(name, 2, 256, 40, Placement(torch.float16, CPU, is_fused=True))


def test_four_bits_as_floats() -> None:
    """The lowest bits of 128 in bf16 and of 1024 in fp16 count by ones."""
    numbers = torch.arange(16, dtype=torch.int16)
    as_bf16 = (numbers | quantized_matmul.BF16_128.value).view(torch.bfloat16)
    as_fp16 = (numbers | quantized_matmul.FP16_1024.value).view(torch.float16)
    assert torch.equal(as_bf16 - 136, numbers - 8)
    assert torch.equal(as_fp16 - 1032, numbers - 8)


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_long_prompt_multiplies_dense_weights(name: str) -> None:
    """From `DENSE_ROWS` rows on: the weights that the kernel writes out are the twin's."""
    layer, _ = make_layer(name, 1280, 24, True, FP32)
    assert layer.method._kernels is not None
    dense = layer.method._kernels.dequantize(kept(layer), torch.float32)
    assert torch.equal(dense, kept(layer).dequantize())
    x = torch.randn(DENSE_ROWS, 1280)
    twin = plain_product(x, kept(layer), layer.bias)
    torch.testing.assert_close(layer(x), twin, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_know_of_others(name: str) -> None:
    """Bits of a row are those it has alone, in a batch of few; in one of more those of that."""
    layer, _ = make_layer(name, 640, 40, True, FP32)
    x = torch.randn(16, 640)
    few, more = layer(x[:FEW_ROWS]), layer(x)
    for i in (0, 3, 7):
        assert torch.equal(layer(x[i : i + 1])[0], few[i])
        assert torch.equal(layer(x[i : i + 9])[0], more[i])


def test_activations_in_eight_bit_floats() -> None:
    """Numbers and scales are the twin's.

    Where rounding up reaches a power of 2 triton's interpreter loses the carry: such numbers, and
    no others, are left out.
    """
    x = torch.randn(6, 300) * 10.0 ** torch.randint(-5, 5, (6, 1))
    x[2] = 0
    kernels = WeightOnlyInt8(FP32)._kernels
    assert kernels is not None
    numbers, scales = kernels.quantize_rows(x)
    twin = round_to_fp8(x)
    assert torch.equal(scales, twin.scales)
    is_sound = (x / scales).frexp().exponent >= twin.numbers.float().frexp().exponent
    assert is_sound.float().mean() > 0.8
    assert torch.equal(numbers.float()[is_sound], twin.numbers.float()[is_sound])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # what numpy says of the same
def test_a_broken_row_stays_broken_and_alone(name: str, rows: int, broken: float) -> None:
    """The engine ends a request whose logits are no numbers: rounding must not make them some."""
    layer, _ = make_layer(name, 128, 32, True, FP32)
    x = torch.randn(rows, 128)
    whole = layer(x)
    x[1, 5] = broken
    y = layer(x)
    assert not y[1].isfinite().any()
    assert torch.equal(y[0], whole[0])


@given(st.integers(0, 10_000), st.sampled_from([32, 64, 96, 128, 384]), st.integers(1, 5))
@draws(10, 40, database=None)
def test_rounding_is_to_the_nearest(seed: int, width: int, rows: int) -> None:
    """No number is further from its weight than half a step; int4's top end is a step short."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=g)
    weight *= 10.0 ** torch.randint(-5, 5, (rows, 1), generator=g)
    whole = round_to_int8(weight)
    assert ((whole.dequantize() - weight).abs() <= whole.scales * 0.5001).all()
    four = round_to_int4(weight)
    step = four.scales.float().abs().repeat_interleave(four.group, 1)
    assert ((four.dequantize() - weight).abs() <= step * 1.04).all()
    inner = weight.abs() < 7 * step
    assert ((four.dequantize() - weight).abs() <= step * 0.5001)[inner].all()
    floats = round_to_fp8(weight)
    error = (floats.dequantize() - weight).abs()
    smallest = floats.scales * 2.0**-9  # below 2^-6 steps are even
    assert (error <= weight.abs() * 2.0**-4 * 1.001 + smallest).all()


def test_zeros_stay_zeros() -> None:
    for round_weight in (round_to_int8, round_to_int4, round_to_fp8):
        assert not round_weight(torch.zeros(2, 64)).dequantize().any()


def test_packing_is_two_halves_of_a_group() -> None:
    """What the kernel reads: column c of a group in the low bits, c + half of it in the high."""
    weight = torch.arange(-8.0, 8.0).repeat(4)[None]  # 64: one group, its scale is 1
    rounded = round_to_int4(weight)
    assert rounded.group == 64
    assert rounded.scales.item() == 1
    assert torch.equal(unpack(rounded.numbers, 64), weight)
    byte = rounded.numbers[0, 3].item()
    assert (byte & 15) - 8 == weight[0, 3]
    assert (byte >> 4) - 8 == weight[0, 35]


def test_groups() -> None:
    assert [group_size(n) for n in (4096, 1600, 576, 96)] == [128, 64, 64, 32]
    with pytest.raises(ValueError, match="multiple of 32 inputs to every linear layer, got 48"):
        Linear(48, 8, False, FP32, method=WeightOnlyInt4(FP32))
    with pytest.raises(ValueError, match=r"fp8 needs a multiple of 16 inputs .* got 40"):
        Linear(40, 8, False, FP32, method=Fp8(FP32))


def test_the_floats_are_not_kept() -> None:
    """Half a byte, one byte: what is kept is what a step reads."""
    for name, size, dtype in (("int8", 1, torch.int8), ("int4", 0.5, torch.uint8), ("fp8", 1, FP8)):
        layer, _ = make_layer(name, 256, 64, False, FP32)
        assert {n for n, _ in layer.named_parameters()} == {"weight"}
        assert layer.weight.dtype == dtype
        assert layer.weight.nbytes == 256 * 64 * size
        assert layer.weight.data_ptr() == kept(layer).numbers.data_ptr()


def test_a_shard_of_rows_is_the_rows() -> None:
    """What tensor parallelism needs: rounding a slice of a weight gives the slice of its rounding,
    by outputs always, by inputs at the edge of a group."""
    weight = torch.randn(8, 512)
    for round_weight in (round_to_int8, round_to_int4, round_to_fp8):
        whole, part = round_weight(weight).dequantize(), round_weight(weight[2:5]).dequantize()
        assert torch.equal(whole[2:5], part)
    by_inputs = round_to_int4(weight[:, 128:384]).dequantize()
    assert torch.equal(round_to_int4(weight).dequantize()[:, 128:384], by_inputs)


LAYERS = {"num_hidden_layers": count(1, 2)}
WIDE = change(LLAMA, hidden_size=64, intermediate_size=96, vocab_size=53, **LAYERS)
WIDE_GPT2 = change(GPT2, hidden_size=64, intermediate_size=256, **LAYERS)


@cache  # what is by kernels is compared twice
def logits_of(config: ModelConfig, quantize: str, is_fused: bool) -> Tensor:
    """Of a prompt of 30 tokens, then three one by one, at night ten."""
    model = random_model(config, quantize=quantize, is_fused=is_fused)
    kv_cache = make_cache(config)
    tokens = [(7 * i * i + 3 * i) % 53 for i in range(40)]
    blocks = list(range(10))
    steps = [
        Row(tokens[:30], 0, blocks),
        *(Row([tokens[i]], i, blocks) for i in range(30, count(33, 40))),
    ]
    return torch.cat([model(make_batch([row], 4, "all"), kv_cache) for row in steps])


@also_at_night
@pytest.mark.parametrize("config", [WIDE, WIDE_GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize(("name", "limit"), [("int8", 0.003), ("fp8", 0.06), ("int4", 0.5)])
def test_whole_models_say_nearly_the_same(name: str, limit: float, config: ModelConfig) -> None:
    """Perplexity of a text that the model itself would write rises by little: the mean of
    KL(exact | quantized) over its tokens, in nats, is the logarithm of the rise. Random weights
    forgive least: the rise is the square of a step's size, here as wide as it gets."""
    exact = logits_of(config, "none", False).log_softmax(-1)
    is_sound = name != "fp8"  # see `on_the_grid`
    rounded = logits_of(config, name, is_fused=is_sound).log_softmax(-1)
    rise = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert 0 < rise < limit


@also_at_night
@pytest.mark.parametrize("config", [WIDE, WIDE_GPT2], ids=["llama", "gpt2"])
def test_whole_models_by_kernels_and_by_twins(config: ModelConfig) -> None:
    """Logits through every kernel at once, and through none."""
    kernels, twins = (logits_of(config, "int4", is_fused) for is_fused in (True, False))
    torch.testing.assert_close(kernels, twins, atol=1e-4, rtol=1e-4)


def test_which_method_each_layer_gets() -> None:
    """Four bits everywhere but in the head, which decides between tokens."""
    for quantize, kind, head in (
        ("int8", WeightOnlyInt8, WeightOnlyInt8),
        ("int4", WeightOnlyInt4, WeightOnlyInt8),
        ("fp8", Fp8, Fp8),
    ):
        where = Placement(torch.float32, CPU, quantize, is_fused=True)
        assert type(choose_linear(where)) is kind
        assert type(choose_head(where)) is head


class Card:
    multi_processor_count = 132


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, *capability: int) -> Placement:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    return Placement(torch.bfloat16, CUDA)


def test_a_gpu_is_asked_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    h100 = on_a_gpu(monkeypatch, 9, 0)
    assert [choose_quantization(n, h100) for n in NAMES] == NAMES
    assert choose_quantization("auto", h100) == "none"
    a100 = on_a_gpu(monkeypatch, 8, 0)
    assert choose_quantization("int4", a100) == "int4"
    with pytest.raises(ValueError, match=r"fp8 needs compute capability 8.9, this GPU has 8.0"):
        choose_quantization("fp8", a100)
    fp16 = Placement(torch.float16, CUDA)
    assert choose_quantization("int8", fp16) == "int8"
    with pytest.raises(ValueError, match=r"fp8 needs '--dtype' bfloat16, got float16: use"):
        choose_quantization("fp8", on_a_gpu(monkeypatch, 9, 0) and fp16)
    monkeypatch.setattr("thirdeye.model.linear.choose_method.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="int8 needs the package triton, which is not installed"):
        choose_quantization("int8", h100)


def test_a_cpu_refuses_what_is_for_gpus() -> None:
    for name in ("int4", "fp8"):
        with pytest.raises(ValueError, match=f"'--quantize' {name} needs a GPU, got cpu: use"):
            choose_quantization(name, PLAIN)
