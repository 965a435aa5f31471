"""What adapters add in triton against the plain part: a check for the interpreter and for a GPU,
without pytest."""

import torch
from torch import Tensor

from thirdeye.model.lora.adapted import FusedAddends, GroupedAddends, Piece
from thirdeye.model.lora.step_slots import StepSlots
from thirdeye.model.placement import Placement

Addends = FusedAddends | GroupedAddends


def pieces(in_features: int, cuts: list[slice], ranks: tuple[int, ...], seed: int) -> list[Piece]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            rows,
            torch.randn(rank, in_features, generator=generator) * 0.2,
            torch.randn(rows.stop - rows.start, rank, generator=generator) * 0.2,
        )
        for rows, rank in zip(cuts, ranks, strict=True)
    ]


def with_two_adapters(addends: Addends, shape: tuple[int, int], where: Placement) -> Addends:
    """One in three pieces, one in one of other rows."""
    in_features, out = shape
    third = out // 3
    cuts = [slice(0, third), slice(third, 2 * third), slice(2 * third, out)]
    for slot, found in (
        (0, pieces(in_features, cuts, (1, 8, 37), 1)),
        (2, pieces(in_features, [slice(third, 2 * third + 1)], (17,), 2)),
    ):
        own = [
            (rows, a.to(where.device, where.dtype), b.to(where.device, where.dtype))
            for rows, a, b in found
        ]
        addends.put(slot, addends.packed(own))
    return addends


def added(addends: Addends, y: Tensor, x: Tensor, slots: Tensor) -> Tensor:
    result, steps = y.clone(), StepSlots()
    with steps.of(slots):
        addends.add(result, x, steps)
    return result


def check_addends(shape: tuple[int, int], where: Placement) -> None:
    """Equal within rounding; a token's bits do not depend on its company, and one without an
    adapter, or of one that is gone, is not touched."""
    fused = with_two_adapters(FusedAddends(*shape, 3), shape, where)
    grouped = with_two_adapters(GroupedAddends(where), shape, where)
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(7, size, generator=generator).to(where.device, where.dtype) for size in shape
    )
    slots = torch.tensor([0, -1, 2, 0, 1, 2, -1], dtype=torch.int32, device=where.device)
    ours, theirs = (added(addends, y, x, slots) for addends in (fused, grouped))
    tolerance = 1e-5 if where.dtype is torch.float32 else 3e-2
    torch.testing.assert_close(ours, theirs, atol=tolerance * 10, rtol=tolerance)
    assert torch.equal(ours[slots < 0], y[slots < 0])
    assert torch.equal(ours[4], y[4])
    for t in range(7):
        alone = added(fused, y[t : t + 1], x[t : t + 1], slots[t : t + 1])
        assert torch.equal(alone[0], ours[t])
    fused.remove(0)
    assert torch.equal(added(fused, y, x, slots)[0], y[0])
