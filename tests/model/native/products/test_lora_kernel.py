"""What adapters add, in C: right, each token by itself, and tokens without one not touched."""

import pytest
import torch
from torch import Tensor

from thirdeye.model.native.library import Library
from thirdeye.model.native.products.lora_kernel import LoraKernel

Piece = tuple[slice, Tensor, Tensor]


def piece(outputs: slice, in_features: int, rank: int, seed: int) -> Piece:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, in_features, generator=generator)
    return outputs, a, torch.randn(outputs.stop - outputs.start, rank, generator=generator)


def made(native: Library, in_features: int, out_features: int) -> tuple[LoraKernel, list[Tensor]]:
    """Two adapters, and what each adds to all outputs as one matrix [out, in] in 64 bits: one in
    three pieces of several ranks, one of some outputs in the middle."""
    kernel = LoraKernel(native, in_features, out_features, num_slots=3)
    third = out_features // 3
    cuts = (slice(0, third), slice(third, 2 * third), slice(2 * third, out_features))
    ranks = zip(cuts, (1, 8, 37), strict=True)
    first = [piece(rows, in_features, rank, rank) for rows, rank in ranks]
    second = [piece(slice(third, 2 * third + 1), in_features, 256, 9)]
    deltas = []
    for slot, pieces in ((0, first), (2, second)):
        kernel.put(slot, kernel.packed(pieces))
        delta = torch.zeros(out_features, in_features, dtype=torch.float64)
        for rows, a, b in pieces:
            delta[rows] += b.double() @ a.double()
        deltas.append(delta)
    return kernel, deltas


@pytest.mark.parametrize("shape", [(1, 3), (5, 47), (32, 48), (33, 301), (576, 960), (2500, 130)])
@pytest.mark.parametrize("tokens", [1, 2, 9, 33])
def test_what_is_added(native: Library, shape: tuple[int, int], tokens: int) -> None:
    kernel, (first, second) = made(native, *shape)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(tokens, shape[0], generator=generator), torch.randn(tokens, shape[1])
    slots = torch.tensor([(-1, 0, 2)[(i + 1) % 3] for i in range(tokens)], dtype=torch.int32)
    got = y.clone()
    kernel.add(got, x, slots)
    for t, slot in enumerate(slots.tolist()):
        if slot < 0:
            assert torch.equal(got[t], y[t])
        else:
            expected = y[t].double() + (first if slot == 0 else second) @ x[t].double()
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(got[t].double(), expected, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_token_does_not_know_of_others(native: Library, threads: int) -> None:
    torch.set_num_threads(threads)
    kernel, _ = made(native, 100, 301)
    x, y = torch.randn(40, 100), torch.randn(40, 301)
    slots = torch.tensor([(0, 2, -1)[i % 3] for i in range(40)], dtype=torch.int32)
    together = y.clone()
    kernel.add(together, x, slots)
    torch.set_num_threads(1)
    for t in range(40):
        alone = y[t : t + 1].clone()
        kernel.add(alone, x[t : t + 1], slots[t : t + 1])
        assert torch.equal(alone[0], together[t])


def test_a_slot_that_is_empty_adds_nothing(native: Library) -> None:
    """Of an adapter that leaves this layer as it is, or of one that was removed."""
    kernel, _ = made(native, 20, 30)
    kernel.remove(0)
    x, y = torch.randn(3, 20), torch.randn(3, 30)
    got = y.clone()
    kernel.add(got, x, torch.tensor([0, 1, -1], dtype=torch.int32))
    assert torch.equal(got, y)


def test_broken_numbers_stay_in_their_row(native: Library) -> None:
    kernel, _ = made(native, 20, 30)
    x, y = torch.randn(3, 20), torch.randn(3, 30)
    slots = torch.tensor([0, 0, 0], dtype=torch.int32)
    expected = y.clone()
    kernel.add(expected, x, slots)
    x[1, 3] = torch.nan
    got = y.clone()
    kernel.add(got, x, slots)
    assert got[1].isnan().all()
    assert torch.equal(got[[0, 2]], expected[[0, 2]])
