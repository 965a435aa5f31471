"""Quantized weights dealt out over ranks: a rank rounds its shard as a layer of its own.

By outputs (query, key, value, gate, up, the head) nothing changes: a row of weights is rounded by
itself, so each output has the bits it has in one piece, but for those of a head in blocks that are
not among the largest. By inputs (the attention's output, down) a
shard's scales are its own maxima, so a partial sum is its twin's, the shard dequantized, and the
sum of all is near one rank's, no further than rounding takes it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.model.linear.quantized_twins import METHODS, kept
from tests.model.parallel.test_parallel import on_ranks, run, share_of
from tests.model.tiny import CPU, GPT2, LLAMA, change, random_model, unfinished_model
from tests.processor import HAS_INT8, NO_INT8
from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.model.declare.parameter import Dealt, Role, Rows
from thirdeye.model.declare.parts import LinearPart
from thirdeye.model.linear.int8 import Int8
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.linear.method import LinearMethod
from thirdeye.model.linear.native_int8 import NativeInt8
from thirdeye.model.linear.native_stored import NativeBlocks
from thirdeye.model.linear.rounded import round_to_fp8, round_to_int4, round_to_int8
from thirdeye.model.linear.weight_only import WeightOnlyInt4
from thirdeye.model.loading.load_tensors import load_tensor
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.parallel_linear import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelLinear,
    VocabParallelTiedLinear,
)
from thirdeye.model.parallel.shares import ALONE, Ranks, sum_in_order
from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer

__all__ = ["on_ranks"]  # a fixture

MakeMethod = Callable[[Placement], LinearMethod]
FORMATS = ["cpu", "cpu-native", *METHODS]
ROUNDING = {"cpu": 0.01, "cpu-native": 0.015, "int8": 0.01, "int4": 0.2, "fp8": 0.05}


@dataclass(frozen=True, slots=True)
class Apart:
    """One of several ranks that never meet: what it computes is its own part."""

    rank: int
    size: int

    def add_up(self, x: Tensor) -> Tensor:
        return x

    def gather(self, x: Tensor, dim: int) -> Tensor:
        return x


def apart(size: int) -> list[Ranks]:
    return [Apart(rank, size) for rank in range(size)]


@pytest.fixture(params=FORMATS)
def make_method(request: pytest.FixtureRequest) -> MakeMethod:
    """Both formats of a CPU, and the GPU's three by the products their kernels are held to."""
    if request.param == "cpu":
        if not HAS_INT8:
            pytest.skip(NO_INT8)
        return lambda where: Int8()
    if request.param == "cpu-native":
        native: Library = request.getfixturevalue("native")
        return lambda where: NativeInt8(native)
    return METHODS[request.param]


def where_of(ranks: Ranks = ALONE) -> Placement:
    return Placement(torch.float32, CPU, ranks=ranks)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def linear_part(dealt: Dealt, in_features: int, *sizes: int, bias: bool = True) -> LinearPart:
    names = ("q", "k", "v") if len(sizes) == 3 else (None,)
    rows = tuple(Rows(size, Role.MLP, name) for size, name in zip(sizes, names, strict=True))
    return LinearPart(in_features, rows, bias, dealt)


def fill(
    layer: Linear, part: LinearPart, weight: Tensor, bias: Tensor | None, ranks: Ranks = ALONE
) -> None:
    """As a checkpoint does: each rank is pushed all there is."""
    load_tensor(layer, part.own(), ranks, "weight", None, weight)
    if bias is not None:
        load_tensor(layer, part.own(), ranks, "bias", None, bias)
    layer.finish()


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("size", [2, 4])
def test_by_outputs_bits_are_those_of_one_rank(
    make_method: MakeMethod, size: int, rows: int
) -> None:
    """A merged layer, dealt out part by part: each output has the bits it has in one piece."""
    torch.set_num_threads(1)
    sizes = [96, 48, 48]
    part = linear_part(Dealt.ROWS, 128, *sizes)
    weight, bias, x = noise(192, 128), noise(192), noise(rows, 128)
    whole = Linear(128, 192, True, where_of(), method=make_method(where_of()))
    fill(whole, part, weight, bias)
    expected = whole(x).split(sizes, dim=1)
    own = [rows // size for rows in sizes]
    for ranks in apart(size):
        where = where_of(ranks)
        shard = ColumnParallelLinear(part, where, method=make_method(where))
        fill(shard, part, weight, bias, ranks)
        for ours, theirs in zip(shard(x).split(own, dim=1), expected, strict=True):
            assert torch.equal(ours, theirs.tensor_split(size, dim=1)[ranks.rank])


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_heads_logits_have_the_bits_of_one_rank(make_method: MakeMethod, is_tied: bool) -> None:
    """97 tokens, dealt out unevenly, from a head of its own and from an embedding's table."""
    torch.set_num_threads(1)
    weight, x = noise(97, 64), noise(5, 64)
    part = linear_part(Dealt.TOKENS, 64, 97, bias=False)
    method = make_method(where_of())
    whole: Linear | TiedLinear
    if is_tied:
        whole = TiedLinear(weight, where_of(), method=method)
        whole.finish()
    else:
        whole = Linear(64, 97, False, where_of(), method=method)
        fill(whole, part, weight, None)
    logits: list[Tensor] = []
    for ranks in apart(2):
        where = where_of(ranks)
        if is_tied:
            tied = VocabParallelTiedLinear(weight, where, method=make_method(where))
            tied.finish()
            logits.append(tied(x))
        else:
            own = VocabParallelLinear(part, where, method=make_method(where))
            fill(own, part, weight, None, ranks)
            logits.append(own(x))
    assert torch.equal(torch.cat(logits, dim=1)[:, :97], whole(x))


def test_the_likeliest_of_a_head_in_blocks_have_the_bits_of_one_rank(native: Library) -> None:
    """Each rank computes its own largest logits from 16 bits, so of the others some are closer than
    one rank's, and some less so."""
    torch.set_num_threads(1)
    weight, x = noise(4800, 64), noise(5, 64)
    part = linear_part(Dealt.TOKENS, 64, 4800, bias=False)

    def head(ranks: Ranks, *, is_head: bool = True) -> Tensor:
        method = NativeBlocks(native, "Q8_0", is_head=is_head)
        layer = VocabParallelLinear(part, where_of(ranks), method=method)
        fill(layer, part, weight, None, ranks)
        return layer(x)

    plain, whole = (head(ALONE, is_head=is_head) for is_head in (False, True))
    logits = torch.cat([head(ranks) for ranks in apart(2)], dim=1)
    likeliest = plain.argmax(1, keepdim=True)
    assert torch.equal(logits.gather(1, likeliest), whole.gather(1, likeliest))
    assert not torch.equal(whole.gather(1, likeliest), plain.gather(1, likeliest))
    assert ((logits == whole) | (logits == plain))[whole != plain].all()
    assert not torch.equal(logits, whole)


def by_inputs(
    make_method: MakeMethod, size: int, weight: Tensor, bias: Tensor, x: Tensor
) -> tuple[Tensor, list[RowParallelLinear]]:
    """The ranks' partial sums of x [T, in], added up, and their layers."""
    layers, parts = [], []
    part = linear_part(Dealt.COLUMNS, weight.shape[1], len(weight))
    for ranks in apart(size):
        where = where_of(ranks)
        layer = RowParallelLinear(part, where, method=make_method(where))
        fill(layer, part, weight, bias, ranks)
        layers.append(layer)
        parts.append(layer(x.tensor_split(size, dim=1)[ranks.rank]))
    return sum_in_order(parts), layers


@pytest.mark.parametrize("size", [2, 4])
def test_by_inputs_sums_are_near_one_ranks(
    make_method: MakeMethod, size: int, request: pytest.FixtureRequest
) -> None:
    """The bias once; no further from the exact product than rounding takes one rank's."""
    torch.set_num_threads(1)
    weight, bias, x = noise(48, 512), noise(48), noise(20, 512)
    summed, _ = by_inputs(make_method, size, weight, bias, x)
    whole = Linear(512, 48, True, where_of(), method=make_method(where_of()))
    fill(whole, linear_part(Dealt.COLUMNS, 512, 48), weight, bias)
    exact = F.linear(x.double(), weight.double(), bias.double())
    limit = ROUNDING[request.node.callspec.params["make_method"]]
    for y in (summed, whole(x)):
        assert (y - exact).norm() / exact.norm() < limit


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", METHODS)
def test_by_inputs_each_part_is_its_twins(name: str, size: int) -> None:
    """Shards dequantized, multiplied and summed, all in float64: the sum is that, to fp32."""
    weight, bias, x = noise(48, 512), noise(48), noise(7, 512)
    summed, layers = by_inputs(METHODS[name], size, weight, bias, x)
    twin = torch.cat([kept(layer).dequantize() for layer in layers], dim=1)
    expected = F.linear(x.double(), twin.double(), bias.double())
    torch.testing.assert_close(summed.double(), expected, atol=1e-4, rtol=1e-5)


def test_int4_shards_between_groups_are_slices() -> None:
    """Then the weights are one rank's, bit for bit; elsewhere a shard has groups of its own."""
    weight, bias, x = noise(16, 1024), noise(16), noise(3, 1024)
    _, layers = by_inputs(METHODS["int4"], 4, weight, bias, x)
    slices = torch.cat([kept(layer).dequantize() for layer in layers], dim=1)
    assert torch.equal(slices, round_to_int4(weight).dequantize())
    assert [kept(layer).group for layer in layers] == [128] * 4
    _, layers = by_inputs(METHODS["int4"], 2, noise(16, 192), bias, noise(3, 192))
    assert [kept(layer).group for layer in layers] == [32] * 2  # in one piece it would be 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [2, 4])
def test_sums_over_ranks_are_of_fp32(on_ranks, size: int, dtype: torch.dtype) -> None:
    """Rounded once, on every rank alike, whatever the parts' dtype and their number."""
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(97, 31, generator=g) * 10 ** torch.randn(97, 31) for _ in range(size)]
    halves = [part.to(dtype) for part in parts]
    expected = sum_in_order([half.float() for half in halves]).to(dtype)
    for total in on_ranks(size, lambda ranks: ranks.add_up(halves[ranks.rank].clone())):
        assert total.dtype == dtype
        assert torch.equal(total, expected)


WIDE = change(
    LLAMA,
    hidden_size=64,
    intermediate_size=256,
    head_dim=32,
    rope=RopeConfig(theta=10_000.0, dim=32),
)
MODELS = {
    "llama": WIDE,
    "gpt2": change(GPT2, hidden_size=128, intermediate_size=256, num_heads=4, head_dim=32),
}
BY_INPUTS = ("output.weight", "down.weight")
ROUND = {"int4": round_to_int4, "fp8": round_to_fp8}


def dequantized(config: ModelConfig, quantize: str, size: int) -> Transformer:
    """The model in one piece, unquantized, of the weights that the ranks' numbers stand for."""
    rounded, head = ROUND[quantize], round_to_int8 if quantize == "int4" else ROUND[quantize]
    model = unfinished_model(change(config, tie_word_embeddings=False))
    sources = dict(unfinished_model(config).named_parameters())
    sources.setdefault("lm_head.weight", sources["embed_tokens.weight"])
    for name, source in sources.items():
        weight = source.detach()
        if name == "lm_head.weight":
            weight = head(weight).dequantize()
        elif name.endswith(BY_INPUTS):
            shards = weight.tensor_split(size, dim=1)
            weight = torch.cat([rounded(shard).dequantize() for shard in shards], dim=1)
        elif name.startswith("blocks.") and weight.dim() == 2:
            weight = rounded(weight).dequantize()
        model.load(name, None, weight)
    model.finish()
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("quantize", "size"), [("int4", 2), ("fp8", 2), ("fp8", 4)])
def test_whole_models_are_their_twins(on_ranks, name: str, quantize: str, size: int) -> None:
    """Logits and hidden states, and every rank has the same bits of them."""
    torch.set_num_threads(1)
    config = MODELS[name] if size == 2 else change(MODELS[name], num_kv_heads=4)
    expected = run(dequantized(config, quantize, size))
    results = on_ranks(size, lambda ranks: run(share_of(config, ranks, quantize)))
    for result in results:
        for ours, theirs, first in zip(result, expected, results[0], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
            assert torch.equal(ours, first)


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_in_8_bits_on_a_cpu(on_ranks, native: Library, name: str) -> None:
    """Kernels in C: two ranks say nearly what one says, and are as near to the exact model."""
    torch.set_num_threads(1)
    config = MODELS[name]
    exact, _ = run(random_model(config))
    one, _ = run(random_model(config, quantize="int8", native=native))
    for two, _ in on_ranks(2, lambda ranks: run(share_of(config, ranks, "int8", native))):
        assert (two - one).norm() < 0.06 * exact.norm()
        assert (two - exact).norm() < 1.2 * (one - exact).norm()


def test_a_share_too_narrow_is_refused() -> None:
    """Field, limit, what a rank got, and the way out."""
    where = replace(where_of(Apart(0, 2)), quantize="int4")
    part = linear_part(Dealt.COLUMNS, 96, 8, bias=False)
    with pytest.raises(ValueError, match="--quantize") as error:
        RowParallelLinear(part, where, method=WeightOnlyInt4(where))
    assert str(error.value) == (
        "'--quantize' int4 needs a multiple of 32 inputs to every linear layer, got 48 on each of "
        "2 ranks: use '--quantize int8' or 'none', or fewer ranks."
    )
