"""What adapters add, in triton, against the plain part: in the interpreter here, compiled where a
GPU is."""

import pytest
import torch
from torch import Tensor

from tests.model.lora.adapters import merged_model, random_factors
from tests.model.lora.test_adapted_model import both, logits, prompts, step
from tests.model.tiny import CPU, LLAMA, change, random_model
from thirdeye.model.lora.adapted import FusedAddends, GroupedAddends, Piece
from thirdeye.model.lora.step_slots import StepSlots
from thirdeye.model.placement import Placement

pytest.importorskip("triton")

SHAPES = [(5, 47), (32, 48), (300, 301)]


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


def both_addends(shape: tuple[int, int], dtype: torch.dtype) -> list[FusedAddends | GroupedAddends]:
    """One adapter in three pieces, one in one of other rows."""
    in_features, out = shape
    third = out // 3
    cuts = [slice(0, third), slice(third, 2 * third), slice(2 * third, out)]
    fused = FusedAddends(in_features, out, 3)
    grouped = GroupedAddends(Placement(dtype, CPU))
    for addends in (fused, grouped):
        for slot, found in (
            (0, pieces(in_features, cuts, (1, 8, 37), 1)),
            (2, pieces(in_features, [slice(third, 2 * third + 1)], (17,), 2)),
        ):
            addends.put(slot, [(rows, a.to(dtype), b.to(dtype)) for rows, a, b in found])
    return [fused, grouped]


def added(addends: FusedAddends | GroupedAddends, y: Tensor, x: Tensor, slots: Tensor) -> Tensor:
    result, steps = y.clone(), StepSlots()
    with steps.of(slots):
        addends.add(result, x, steps)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_the_plain_part(shape: tuple[int, int], dtype: torch.dtype) -> None:
    fused, grouped = both_addends(shape, dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, shape[0], generator=generator).to(dtype)
    y = torch.randn(7, shape[1], generator=generator).to(dtype)
    slots = torch.tensor([0, -1, 2, 0, 1, 2, -1], dtype=torch.int32)
    ours, theirs = (added(addends, y, x, slots) for addends in (fused, grouped))
    tolerance = 1e-5 if dtype is torch.float32 else 3e-2
    torch.testing.assert_close(ours, theirs, atol=tolerance * 10, rtol=tolerance)
    assert torch.equal(ours[slots < 0], y[slots < 0])
    assert torch.equal(ours[4], y[4])  # of an empty slot
    for t in range(7):  # a token's bits do not depend on its company
        alone = added(fused, y[t : t + 1], x[t : t + 1], slots[t : t + 1])
        assert torch.equal(alone[0], ours[t])
    fused.remove(0)
    assert torch.equal(added(fused, y, x, slots)[0], y[0])


def test_a_model_of_fused_parts() -> None:
    """Two adapters and the base in one step, as merged weights say."""
    config = change(LLAMA, num_hidden_layers=1)
    model = random_model(config, is_fused=True, max_adapters=3)
    assert model.adapters is not None
    for number, factors in zip((7, 9), both(config), strict=True):
        model.adapters.load(number, factors)
    tokens = prompts(3)
    mixed = logits(model, step(tokens, {0: model.adapters.slots[7], 1: model.adapters.slots[9]}))
    sizes = [len(ids) for ids in tokens.values()]
    small, large = (merged_model(config, factors) for factors in both(config))
    for i, twin in enumerate((small, large, random_model(config))):
        expected = logits(twin, step(tokens, {})).split(sizes)[i]
        torch.testing.assert_close(mixed.split(sizes)[i], expected, atol=2e-4, rtol=1e-4)
    assert random_factors(config, 1)[0].rank == 3
