"""Blocks decoded in C are those that the readers decode, bit for bit."""

import numpy as np
import pytest
import torch

from thirdeye.model.loading import large_pages
from thirdeye.model.loading.widen import KINDS, TILE, choose_widen, decode
from thirdeye.model.native.library import Library
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES

TYPES = {kind.name: kind for kind in TENSOR_TYPES.values()}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("num_rows", [1, 7, 300])
def test_any_bytes(name: str, num_rows: int, native: Library) -> None:
    """Infinities and signs of nought included; more blocks than one thread takes."""
    kind = TYPES[name]
    width = 2 * kind.block_size
    raw = np.random.default_rng(num_rows).integers(
        0, 256, num_rows * 2 * kind.block_bytes, np.uint8
    )
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (num_rows, width))
    fast, slow = choose_widen(native)(tensor), decode(tensor)
    assert fast.shape == slow.shape == (num_rows, width)
    is_nan = slow.isnan()
    assert torch.equal(fast.isnan(), is_nan)
    assert torch.equal(fast.view(torch.int32)[~is_nan], slow.view(torch.int32)[~is_nan])


def test_rows_in_another_order(native: Library) -> None:
    """Blocks that are a view of the file need not lie one behind the other."""
    kind = TYPES["Q4_K"]
    raw = np.random.default_rng(0).integers(0, 100, 8 * kind.block_bytes, np.uint8)
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (8, 256)).reordered(lambda r: r[::-1])
    assert torch.equal(choose_widen(native)(tensor), decode(tensor))


def test_others_are_left_to_their_readers(native: Library) -> None:
    kind = TYPES["IQ4_NL"]
    raw = np.random.default_rng(0).integers(0, 100, 8 * kind.block_bytes, np.uint8)
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (4, 64))
    assert kind.name not in KINDS
    assert torch.equal(choose_widen(native)(tensor), decode(tensor))


@pytest.mark.parametrize("name", ["Q4_K", "IQ4_NL"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_native", [True, False])
def test_into_place(name: str, dtype: torch.dtype, is_native: bool, native: Library) -> None:
    """The same numbers, rounded to what is there, over several tiles; also into columns."""
    kind, width = TYPES[name], 512
    num_rows = TILE // width * 2 + 5
    raw = np.random.default_rng(0).integers(
        0, 100, num_rows * (width // kind.block_size) * kind.block_bytes, np.uint8
    )
    tensor = stored_tensor(memoryview(raw.tobytes()), kind, (num_rows, width))
    widen = choose_widen(native if is_native else None)
    expected = decode(tensor).to(dtype)
    own = torch.zeros(num_rows, width, dtype=dtype)
    widen.into(tensor, own)
    assert torch.equal(own, expected)
    wide = torch.zeros(num_rows, width + 3, dtype=dtype)
    widen.into(tensor, wide[:, 3:])
    assert torch.equal(wide[:, 3:], expected)
    assert not wide[:, :3].any()


@pytest.mark.parametrize("shape", [(3, 5), (1200, 1001)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_memory_in_large_pages(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Dense, begins with a cache line, and can be written."""
    memory = large_pages.empty(*shape, dtype=dtype)
    assert memory.shape == shape
    assert memory.dtype == dtype
    assert memory.is_contiguous()
    assert memory.data_ptr() % large_pages.ALIGNMENT == 0
    assert (memory.fill_(7) == 7).all()
