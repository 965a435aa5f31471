"""Blocks decoded in C are those that the readers decode, bit for bit."""

import numpy as np
import pytest
import torch

from thirdeye.model.loading.widen import KINDS, choose_widen, decode
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
