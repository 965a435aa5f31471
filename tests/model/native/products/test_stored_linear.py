"""The linear layer over a file's own blocks in C has the bits of a slow twin."""

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.native.products.stored_twin import (
    READERS,
    Array,
    groups_of,
    product,
    refined,
    tensor_of,
    tensor_type,
)
from tests.model.test_invariance import heights_that_differ
from thirdeye.model.declare.parameter import Share
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear
from thirdeye.model.linear.native_stored import NativeStored
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import FORMATS
from thirdeye.model.placement import Placement

FP32 = Placement(torch.float32, torch.device("cpu"))
ROWS = (1, 2, 3, 8, 33)
HALVES = {  # where a block has its numbers of 16 bits
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS"), (0,)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
    "Q6_K": (208,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "MXFP4": (),
}
POWERS = (0, 1, 2, 60, 104, 118, 121, 127, 140)  # of a byte, where a block has one
SCALES = (0.0, -0.0, 6e-8, -6e-8, 6e-5, 0.001, -0.001, 0.02, 1.0, -3.5, 65504.0)


def random_blocks(name: str, rows: int, width: int, seed: int, scales: tuple[float, ...]) -> Array:
    """Any bits, but for the halves, which are numbers: [rows, bytes of a row]."""
    kind, draw = tensor_type(name), np.random.default_rng(seed)
    blocks = draw.integers(0, 256, (rows, width // kind.block_size, kind.block_bytes), np.uint8)
    for place in HALVES[name]:
        some = draw.choice(np.array(scales, "<f2"), blocks.shape[:2])
        blocks[:, :, place : place + 2] = some[..., None].view(np.uint8)
    if name == "MXFP4":
        blocks[:, :, 0] = draw.choice(np.array(POWERS, np.uint8), blocks.shape[:2])
    return blocks.reshape(rows, -1)


def numbers(rows: int, width: int, seed: int = 0) -> Tensor:
    """Of very different size, with zeros and numbers that are not normal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator)
    x *= (2 * torch.randn(rows, width, generator=generator)).exp()
    x.view(-1)[::97], x.view(-1)[2::103] = 0.0, 1e-40
    x[0, :32] = 0.0
    return x


def layer_of(
    native: Library,
    parts: list[StoredTensor],
    bias: Tensor | None = None,
    *,
    is_head: bool = False,
) -> Linear:
    rows, width = sum(part.shape[0] for part in parts), parts[0].shape[1]
    method = NativeStored(native, is_head=is_head)
    layer = Linear(width, rows, bias is not None, FP32, method=method)
    if bias is not None and layer.bias is not None:
        layer.bias.copy_(bias)
    start = 0
    for part in parts:
        stop = start + part.shape[0]
        assert layer.take_stored(slice(start, stop), part, Share((slice(0, part.shape[0]),)))
        start = stop
    layer.finish()
    return layer


def assert_same_bits(ours: Tensor, twin: Array) -> None:
    np.testing.assert_array_equal(ours.numpy().view(np.int32), twin.view(np.int32))


def test_each_format_has_a_twin() -> None:
    assert set(FORMATS) == set(READERS) == set(HALVES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_twin_reads_what_the_public_reader_reads(name: str) -> None:
    """`gguf` is ggml's own package."""
    blocks = random_blocks(name, 3, 512, 0, SCALES)
    wanted = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
    for row, weights in zip(groups_of(tensor_of(name, blocks)), wanted, strict=True):
        for group, own in zip(row, weights.reshape(-1, 32), strict=True):
            scales = np.repeat(np.float32(group.scales), 32 // len(group.scales))
            least = group.minimums or [0.0]
            minimums = np.repeat(np.float32(least), 32 // len(least))
            read = np.float32(group.q) * scales + minimums
            np.testing.assert_array_equal(read, own)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows", ROWS)
def test_bits_are_the_twins(native: Library, name: str, rows: int) -> None:
    """A panel that is not full, scales of every kind, all counts of rows that a kernel knows."""
    stored = tensor_of(name, random_blocks(name, 50, 512, rows, SCALES))
    bias = torch.randn(50, generator=torch.Generator().manual_seed(1))
    x = numbers(rows, 512)
    ours = layer_of(native, [stored], bias)(x)
    assert_same_bits(ours, product(x.numpy(), stored, bias.numpy()))


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(FORMATS),
    rows=st.integers(1, 9),
    blocks=st.integers(1, 3),
    out_features=st.integers(1, 100),
    scales=st.lists(st.floats(-65504, 65504, width=16), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_any_blocks(
    native: Library,
    name: str,
    rows: int,
    blocks: int,
    out_features: int,
    scales: list[float],
    seed: int,
) -> None:
    width = tensor_type(name).block_size * blocks
    stored = tensor_of(name, random_blocks(name, out_features, width, seed, tuple(scales)))
    x = numbers(rows, width, seed)
    assert_same_bits(layer_of(native, [stored])(x), product(x.numpy(), stored))


def test_the_largest_sums_are_exact(native: Library) -> None:
    """Every number at its end, every activation too: nothing saturates on the way."""
    x = torch.full((5, 512), 1.0)
    x[1] = -1.0
    for name in FORMATS:
        kind = tensor_type(name)
        for byte in (0x00, 0x7F, 0x80, 0xFF):
            blocks = np.full((3, 512 // kind.block_size, kind.block_bytes), byte, np.uint8)
            for place in HALVES[name]:
                blocks[:, :, place : place + 2] = np.array([0.5], "<f2").view(np.uint8)
            if name == "MXFP4":
                blocks[:, :, 0] = POWERS[-1]
            stored = tensor_of(name, blocks.reshape(3, -1))
            assert_same_bits(layer_of(native, [stored])(x), product(x.numpy(), stored))


def test_parts_of_several_formats(native: Library) -> None:
    """As a file that keeps values in more bits than queries has them; like neighbours are one."""
    names = ("Q4_K", "Q4_K", "Q6_K", "Q8_0")
    parts = [
        tensor_of(name, random_blocks(name, rows, 256, rows, (0.01, -0.02)))
        for name, rows in zip(names, (70, 20, 49, 3), strict=True)
    ]
    layer, x = layer_of(native, parts), numbers(3, 256)
    assert [part.num_rows for part in layer.kept.parts] == [90, 49, 3]
    twins = [product(x.numpy(), part) for part in parts]
    assert_same_bits(layer(x), np.concatenate(twins, axis=1))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["Q4_1", "Q5_K", "Q6_K"])
def test_a_row_does_not_know_its_company(native: Library, name: str, threads: int) -> None:
    parts = [
        tensor_of(kind, random_blocks(kind, 200, 512, 0, (0.01, -0.02))) for kind in (name, "Q8_0")
    ]
    layer, x = layer_of(native, parts), numbers(101, 512)
    torch.set_num_threads(1)
    alone = torch.cat([layer(row) for row in x.split(1)])
    torch.set_num_threads(threads)
    assert torch.equal(layer(x), alone)
    assert heights_that_differ(layer, x) == []


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_row_stays_broken_and_alone(native: Library, broken: float) -> None:
    stored = tensor_of("Q4_K", random_blocks("Q4_K", 50, 256, 0, (0.01,)))
    layer, x = layer_of(native, [stored]), numbers(6, 256)
    x[1, 40] = broken
    y = layer(x)
    assert not y[1].isfinite().any()
    others = [0, 2, 3, 4, 5]
    assert torch.equal(y[others], layer(x[others]))
    head = layer_of(native, [stored], is_head=True)
    assert not head(x)[1].isfinite().any()
    assert torch.equal(head(x)[others], head(x[others]))


def test_numbers_are_rounded_to_8_bits(native: Library) -> None:
    """What came as floats, and no rows."""
    layer = Linear(64, 32, False, FP32, method=NativeStored(native))
    layer.weight.normal_()
    weight = layer.weight.detach().clone()
    layer.finish()
    x = torch.randn(3, 64)
    error = (layer(x) - x @ weight.T).norm() / (x @ weight.T).norm()
    assert 0 < error < 0.02
    assert layer(x[:0]).shape == (0, 32)


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q4_1"])
def test_a_heads_bits_are_the_twins(native: Library, name: str) -> None:
    """More panels than are refined, the last of them not full."""
    stored = tensor_of(name, random_blocks(name, 20 * 48 + 7, 256, 3, (0.001, -0.002)))
    bias = torch.randn(20 * 48 + 7, generator=torch.Generator().manual_seed(1))
    x = numbers(6, 256)
    ours = layer_of(native, [stored], bias, is_head=True)(x)
    assert_same_bits(ours, refined(x.numpy(), stored, bias.numpy()))
    assert not np.array_equal(ours.numpy(), product(x.numpy(), stored, bias.numpy()))


def test_a_heads_largest_results_are_closer(native: Library) -> None:
    stored = tensor_of("Q8_0", random_blocks("Q8_0", 4800, 256, 0, (0.001, -0.002)))
    x = numbers(8, 256)
    exact = x.double() @ torch.from_numpy(stored.widen()).double().T
    best = exact.topk(8).indices

    def error(*, is_head: bool) -> Tensor:
        y = layer_of(native, [stored], is_head=is_head)(x).double()
        return (y - exact).gather(1, best).norm(dim=1)

    plain, closer = error(is_head=False)[1:], error(is_head=True)[1:]
    assert (closer < plain / 50).all(), (plain, closer)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_heads_row_does_not_know_its_company(native: Library, threads: int) -> None:
    parts = [
        tensor_of(kind, random_blocks(kind, 1000, 512, 0, (0.01, -0.02)))
        for kind in ("Q4_K", "Q8_0")
    ]
    layer, x = layer_of(native, parts, is_head=True), numbers(37, 512)
    torch.set_num_threads(1)
    alone = torch.cat([layer(row) for row in x.split(1)])
    torch.set_num_threads(threads)
    assert torch.equal(layer(x), alone)
    assert heights_that_differ(layer, x) == []
