"""Norm, activation and rotation in C: each against its twin, and a token's bits in any company."""

import math

import pytest
import torch

from tests.model.fused_twins import (
    HEAD_DIMS,
    HEAD_NORMS,
    check_gated_mlp,
    check_heads,
    check_norm,
    close,
    fill,
    heads_config,
    noise,
)
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, change, make_cache, random_model
from thirdeye.model.config import Activation, Norm, RopeConfig
from thirdeye.model.declare.block import HeadQKNormPart, WideQKNormPart
from thirdeye.model.declare.parts import HeadNormPart, NormPart, WideNormPart
from thirdeye.model.native.activate import KINDS, ActivateKernel
from thirdeye.model.native.layer_norm import LayerNormKernel
from thirdeye.model.native.library import Library
from thirdeye.model.native.rms_norm import RMSNormKernels
from thirdeye.model.native.rope_kv import RopeKVKernel
from thirdeye.model.parts.activations import XIELU, activation_function, gated_function
from thirdeye.model.parts.fused import (
    NativeHeadQKNorm,
    NativeLayerNorm,
    NativeWideQKNorm,
    NativeXIELU,
)
from thirdeye.model.parts.head_norms import HeadQKNorm, WideQKNorm
from thirdeye.model.parts.layers import LayerNorm
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache

QWEN3 = change(LLAMA, qk_norm=True, tie_word_embeddings=True)
PARTIAL = change(LLAMA, rope=RopeConfig(theta=10_000.0, dim=4))


@pytest.fixture
def where(native: Library) -> Placement:
    return Placement(torch.float32, CPU, native=native)


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 1), (3, 32), (5, 100), (2, 576), (40, 576), (1, 2050), (0, 8)]
)
def test_norm(rows: int, size: int, where: Placement) -> None:
    """Sizes that fill registers and that do not; the input itself is left alone."""
    check_norm(rows, size, where)


@pytest.mark.parametrize(("has_bias", "has_weight"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize(
    ("rows", "size"), [(1, 1), (3, 32), (5, 100), (2, 768), (40, 768), (1, 2050), (0, 8)]
)
def test_layer_norm(
    rows: int, size: int, has_bias: bool, has_weight: bool, where: Placement
) -> None:
    """Against torch's, around a mean that is not 0; the input itself is left alone."""
    part = NormPart(Norm.LAYER_NORM, size, 1e-5, has_bias, has_weight)
    ours, twin = (kind(part, where) for kind in (NativeLayerNorm, LayerNorm))
    fill(ours, twin, where)
    x, delta = (noise(rows, size, where=where) + 3 for _ in range(2))
    before = x.clone()
    close(ours(x), twin(x))
    (stream, normed), (twin_stream, twin_normed) = ours.add(x, delta), twin.add(x, delta)
    assert torch.equal(stream, twin_stream)
    close(normed, twin_normed)
    assert torch.equal(x, before)


@pytest.mark.parametrize("activation", list(KINDS))
@pytest.mark.parametrize(("rows", "wide"), [(1, 1), (3, 48), (2, 1536), (33, 100)])
def test_gated(rows: int, wide: int, activation: Activation, where: Placement) -> None:
    check_gated_mlp(rows, wide, where, activation)


OF_ONE = [kind for kind in KINDS if kind is not Activation.CLAMPED_SWIGLU]  # number, not of a pair


@pytest.mark.parametrize("activation", OF_ONE)
def test_activation(activation: Activation, native: Library, where: Placement) -> None:
    """Every number of a fine grid: nearer to the exact value than to torch's, which cancels."""
    x = torch.linspace(-15, 15, 3 * 33_333).view(3, -1)
    y = ActivateKernel(native, activation, is_gated=False)(x)
    torch.testing.assert_close(y, activation_function(activation, where)(x), atol=2e-6, rtol=1e-6)
    exact = activation_function(activation, Placement(torch.float64, torch.device("meta")))
    torch.testing.assert_close(y.double(), exact(x.double()), atol=1e-6, rtol=2e-6)


def test_a_clamped_pair_of_the_extremes(native: Library) -> None:
    """Gates up to 7, partners within +-7; a NaN of either is not swallowed."""
    gates = torch.tensor([0.0, -1e30, 1e30, torch.inf, 1.0, torch.nan, 1.0])
    partners = torch.tensor([1.0, 1.0, 1e30, -torch.inf, 0.0, 1.0, torch.nan])
    kernel = ActivateKernel(native, Activation.CLAMPED_SWIGLU, is_gated=True)
    y = kernel(torch.cat((gates, partners))[None])[0]
    most, one = (g / (1 + math.exp(-1.702 * g)) for g in (7, 1))
    expected = torch.tensor([0.0, 0.0, most * 8, most * -6, one])
    torch.testing.assert_close(y[:5], expected, atol=1e-5, rtol=1e-6)
    assert y[5:].isnan().all()


@pytest.mark.parametrize("activation", OF_ONE)
def test_activation_of_the_extremes(activation: Activation, native: Library) -> None:
    """No overflow on the way to 0 or x; a NaN is not swallowed."""
    gates = torch.tensor([0.0, -1e30, 1e30, -100.0, 100.0, torch.inf, torch.nan])
    both = torch.cat((gates, torch.ones(7)))[None]
    y = ActivateKernel(native, activation, is_gated=True)(both)[0]
    large = torch.tensor([1e30, 100.0])
    most, much = (large**2 if activation is Activation.RELU2 else large).tolist()
    assert y[:6].tolist() == [0.0, 0.0, most, 0.0, much, torch.inf]
    assert y[6].isnan()


def test_wide_norm(native: Library, where: Placement) -> None:
    """Queries and keys over all heads together, sizes that fill registers and that do not."""
    for sizes in ((32, 16), (100, 20), (576, 192)):
        part = WideQKNormPart(*(WideNormPart(size, 1e-5) for size in sizes))
        ours = NativeWideQKNorm(part, Placement(torch.float32, CPU, native=native))
        twin = WideQKNorm(part, where)
        fill(ours, twin, where)
        qkv = noise(5, sum(sizes) + sizes[1], where=where)
        y = ours(qkv)
        close(y, twin(qkv))
        assert torch.equal(ours(qkv[3:4]), y[3:4])


def test_head_norm(native: Library, where: Placement) -> None:
    """Each head by itself, sizes that fill registers and that do not; values as they are."""
    for num_heads, num_kv_heads, head_dim in ((1, 1, 1), (6, 2, 16), (5, 5, 100), (4, 1, 160)):
        part = HeadQKNormPart(
            *(HeadNormPart(count, head_dim, 1e-5) for count in (num_heads, num_kv_heads))
        )
        ours = NativeHeadQKNorm(part, Placement(torch.float32, CPU, native=native))
        twin = HeadQKNorm(part, where)
        fill(ours, twin, where)
        qkv = noise(5, (num_heads + 2 * num_kv_heads) * head_dim, where=where) + 3
        y = ours(qkv)
        close(y, twin(qkv))
        assert torch.equal(ours(qkv[3:4]), y[3:4])


def test_activation_times_a_partner(native: Library, where: Placement) -> None:
    """Of a tensor of its own: sizes that fill registers and that do not, rows in any company."""
    for size in (1, 16, 100):
        x, partner = (noise(5, size, where=where) for _ in range(2))
        kernel = ActivateKernel(native, Activation.GELU_TANH, is_gated=False)
        y = kernel(x, partner)
        close(y, gated_function(Activation.GELU_TANH, where)(x, partner))
        assert torch.equal(kernel(x[3:4], partner[3:4]), y[3:4])


def test_xielu(native: Library, where: Placement) -> None:
    """Every number of a fine grid, in any company; a NaN is not swallowed."""
    numbers = torch.tensor([0.3, -0.7, 0.5, -1e-6])
    ours, twin = NativeXIELU(Placement(torch.float32, CPU, native=native)), XIELU(where)
    for module in (ours, twin):
        module.weight.copy_(numbers)
    x = torch.linspace(-15, 15, 3 * 33_333).view(3, -1)
    y = ours(x)
    torch.testing.assert_close(y, twin(x), atol=2e-6, rtol=1e-6)
    assert torch.equal(ours(x[1:2, 7:100]), y[1:2, 7:100])
    extremes = ours(torch.tensor([[0.0, -torch.inf, torch.inf, torch.nan, -100.0]]))[0]
    assert extremes[0].abs() < 2e-6
    assert extremes[2] == torch.inf
    assert extremes[3].isnan()
    assert extremes[4] == twin(torch.tensor([-100.0]))


@pytest.mark.parametrize("norms", HEAD_NORMS)
@pytest.mark.parametrize("head_dim", [*HEAD_DIMS, 256])
def test_heads(head_dim: int, norms: str, where: Placement) -> None:
    """Rotated wholly and in part, with and without a norm of each head, before and after."""
    for dim in {head_dim, max(2, head_dim // 4 * 2)}:
        check_heads(heads_config(head_dim, dim, norms), where)


@pytest.mark.parametrize(
    "config", [LLAMA, QWEN3, PARTIAL, GPT2], ids=["llama", "qwen3", "partial", "gpt2"]
)
def test_whole_model(config, native: Library) -> None:
    """A prompt, then a chunk beside a single token: logits as by torch's kernels, to 1e-4."""
    plain, ours = random_model(config), random_model(config, native=native)
    caches = [make_cache(config), make_cache(config)]
    steps = [
        [Row([5, 17, 3, 80, 2, 9, 11], 0, [3, 9])],
        [Row([40, 41, 42], 7, [3, 9, 1]), Row([8], 0, [4])],
    ]
    for rows in steps:
        batch = make_batch(rows, 4, "all")
        expected, logits = plain(batch, caches[0]), ours(batch, caches[1])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits(native: Library, threads: int) -> None:
    """Every row of a batch of 100 as that row alone."""
    torch.set_num_threads(threads)
    g = torch.Generator().manual_seed(0)
    x, delta = (torch.randn(100, 576, generator=g) for _ in range(2))
    weight, both = torch.randn(576, generator=g), torch.randn(100, 200, generator=g)
    norms, layer_norm = RMSNormKernels(native), LayerNormKernel(native)
    gates = [ActivateKernel(native, kind, is_gated=True) for kind in KINDS]
    streams, normed = norms.add_rms_norm(x, delta, weight, 1e-5)
    _, centred = layer_norm(x, delta, weight, weight, 1e-5)
    gated = [gate(both) for gate in gates]
    for row in (0, 1, 50, 99):
        only = slice(row, row + 1)
        stream, y = norms.add_rms_norm(x[only], delta[only], weight, 1e-5)
        assert torch.equal(stream, streams[only])
        assert torch.equal(y, normed[only])
        assert torch.equal(norms.rms_norm(stream, weight, 1e-5), y)
        alone = layer_norm(x[only], delta[only], weight, weight, 1e-5)
        assert torch.equal(alone[1], centred[only])
        assert torch.equal(layer_norm(alone[0], None, weight, weight, 1e-5)[1], alone[1])
        for gate, together in zip(gates, gated, strict=True):
            assert torch.equal(gate(both[only]), together[only])


def test_a_cache_in_fp16_is_rounded_to_nearest(native: Library) -> None:
    """What is written is what torch would round the fp32 keys and values to."""
    config = change(LLAMA, head_dim=20, rope=RopeConfig(theta=10_000.0, dim=20))
    g = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 8 * 20, generator=g)
    angles = torch.randn(5, 1, 10, generator=g)
    slots = torch.tensor([3, 9, 4, 30, 0])
    queries, caches = [], []
    for dtype in (torch.float32, torch.float16):
        cache = KVCache(config, 8, 4, dtype, CPU)
        query = RopeKVKernel(native).rope_and_write(
            qkv, angles.cos(), angles.sin(), slots, *cache.layer(1)
        )
        queries.append(query)
        caches.append(cache)
    wide, half = caches
    assert torch.equal(queries[0], queries[1])
    for ours, theirs in zip(half.keys + half.values, wide.keys + wide.values, strict=True):
        assert torch.equal(ours, theirs.half())
    assert half.keys[1].count_nonzero() == 5 * 2 * 20
    assert half.keys[0].count_nonzero() == 0
