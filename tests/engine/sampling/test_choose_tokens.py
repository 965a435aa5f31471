"""The sampler's kernels in triton's interpreter, against the sampler that puts tokens in order."""

import math
import random
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.kernels import begin_step
from thirdeye.model.kernels import choose_tokens as kernels
from thirdeye.model.kernels.accept_drafts import accept_drafts
from thirdeye.server.engine.run_ahead.device_state import DeviceState, SlotField, StateLayout
from thirdeye.server.engine.sampling.fused_sampler import choose_in_kernels
from thirdeye.server.engine.sampling.philox import uniform
from thirdeye.server.engine.sampling.sampler import GREEDY, DrawParams, sample

OFF = -math.inf
VOCAB = 300
WAYS = [
    GREEDY,
    DrawParams(0.8, 1.0, OFF, 0, 0),
    DrawParams(0.7, 0.8, OFF, 0, 0),
    DrawParams(1.0, 0.3, OFF, 0, 0),
    DrawParams(1.0, 1.0, OFF, 7, 0),
    DrawParams(1.5, 0.9, OFF, 20, 0),
    DrawParams(1.0, 1.0, math.log(0.05), 0, 0),
    DrawParams(1.0, 0.9, math.log(0.01), 290, 0),
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them in few tokens, the last not full."""
    monkeypatch.setattr(kernels, "PIECE", 64)
    monkeypatch.setattr(kernels, "STEP", 128)


def rows_of(seed: int) -> tuple[Tensor, list[DrawParams], list[int]]:
    chance = random.Random(seed)
    logits = torch.randn(len(WAYS), VOCAB, generator=torch.Generator().manual_seed(seed)) * 3
    logits = (logits * 4).round() / 4  # many are equally likely
    logits[:, 11:40] = -torch.inf  # as a grammar leaves them
    params = [way._replace(seed=chance.randrange(-(2**63), 2**63)) for way in WAYS]
    return logits, params, [chance.randrange(2**20) for _ in WAYS]


@pytest.mark.parametrize("seed", range(3))
def test_the_sorting_samplers_tokens(seed: int) -> None:
    """Of every way to choose; a row alone has the same."""
    logits, params, positions = rows_of(seed)
    chosen = choose_in_kernels(logits, params, positions)
    assert chosen.tolist() == sample(logits, params, positions).tolist()
    row = seed + 2
    alone = choose_in_kernels(logits[[row]], [params[row]], [positions[row]])
    assert alone.tolist() == [int(chosen[row])]


def limits_of(logits: Tensor, params: list[DrawParams]) -> Tensor:
    """How far from the largest logit rows draw, in units of their temperatures."""
    seen: list[Tensor] = []

    def choose(*arguments: Tensor, advance: bool) -> Tensor:
        chosen, limits = kernels.choose_within(*arguments, advance=advance)
        seen.append(limits)
        return chosen

    with patch.object(kernels, "choose_tokens", choose):
        choose_in_kernels(logits, params, [0] * len(params))
    return seen[0]


def test_a_limit_is_a_tokens_distance_to_the_last_bit() -> None:
    """That of the k-th likeliest, and of the one with which the sum of masses reaches p; summed
    here with more digits, and put in order."""
    logits, params, _ = rows_of(7)
    limits = limits_of(logits, params)
    for row, way, found in zip(logits, params, limits.tolist(), strict=True):
        if way.temperature == 0:
            continue
        far = ((row.max() - row) / way.temperature).sort().values
        limit = torch.tensor(-way.log_min_p)
        if way.top_k:
            limit = torch.minimum(limit, far[way.top_k - 1])
        if way.top_p < 1:
            mass = (-far.double()).exp() * (far <= limit)
            last = int((mass.cumsum(0) < way.top_p * mass.sum()).sum())
            limit = torch.minimum(limit, far[last])
        assert found == float(limit), way


@pytest.mark.parametrize(("nearest", "expected"), [(0.0, 130), (1.0, 139)])
def test_what_has_no_mass_is_never_drawn(nearest: float, expected: int) -> None:
    """Not even by a number so close to 1, or to 0, that sums cannot tell."""
    logits = torch.full((2, VOCAB), -torch.inf)
    logits[:, 130:140] = 0.0
    seeds = torch.arange(2**14)
    numbers = uniform(seeds, torch.zeros_like(seeds))
    seed = int((numbers - nearest).abs().argmin())
    params = [DrawParams(1.0, 1.0, OFF, 0, seed)] * 2
    assert choose_in_kernels(logits, params, [0, 0]).tolist() == [expected] * 2


def test_logits_in_16_bits_are_read_as_they_are() -> None:
    logits, params, positions = rows_of(5)
    in_bf16 = logits.bfloat16()
    chosen = choose_in_kernels(in_bf16, params, positions)
    assert chosen.tolist() == choose_in_kernels(in_bf16.float(), params, positions).tolist()


def slots_of(positions: list[int]) -> Tensor:
    """A table of greedy slots at these positions; the last is scrap."""
    table = torch.zeros(len(positions) + 1, 20, dtype=torch.int32)
    table[:-1, SlotField.POSITION] = torch.tensor(positions)
    return table


def test_slots_take_their_tokens() -> None:
    """And go on, if they shall; scrap stays, and a row without numbers says so."""
    logits = torch.randn(4, VOCAB)
    logits[1, 70] = torch.nan
    logits[2] = torch.inf
    table, slots = slots_of([5, 6, 7]), torch.tensor([2, 0, 1, 3])
    chosen = kernels.choose_tokens(logits, table, slots, advance=True)
    assert chosen[:, 0].tolist() == [1, 0, 0, 1]
    assert int(chosen[0, 1]) == int(logits[0].argmax())
    assert torch.equal(table[slots, SlotField.TOKEN].long(), chosen[:, 1])
    assert table[:, SlotField.POSITION].tolist() == [6, 7, 8, 0]
    kernels.choose_tokens(logits, table, slots, advance=False)
    assert table[:, SlotField.POSITION].tolist() == [6, 7, 8, 0]
    assert kernels.choose_tokens(logits[:0], table, slots[:0], advance=True).shape == (0, 2)


def test_kernels_and_slots_have_the_same_words() -> None:
    for field in ("TOKEN", "POSITION", "TEMPERATURE", "TOP_P", "LOG_MIN_P", "TOP_K", "SEED_LOW"):
        assert getattr(kernels, field).value == SlotField[field]
    assert kernels.SEED_HIGH.value == SlotField.SEED_HIGH
    assert begin_step.STATE_SOURCE.value == SlotField.STATE_SOURCE
    assert begin_step.STATE_TARGET.value == SlotField.STATE_TARGET


@pytest.mark.parametrize("seed", range(5))
def test_slots_go_on_as_far_as_their_drafts_are_right(seed: int) -> None:
    """The kernel against its twin, over slots with up to five drafts, right and wrong, with rows
    that are no numbers between them and scrap behind."""
    chance = random.Random(seed)
    state = DeviceState(StateLayout(4, 3, 1, most_rows_verified=24), 9, VOCAB, torch.device("cpu"))
    state.table[:4, SlotField.POSITION] = torch.tensor([5, 60, 0, 7])
    rows = [(s, i) for s in chance.sample(range(4), 3) for i in range(chance.randint(1, 6))]
    rows += [(4, 0)] * 2
    slots = torch.tensor([slot for slot, _ in rows])
    state.offsets[: len(rows)] = torch.tensor([offset for _, offset in rows])
    chosen = torch.tensor([[int(chance.random() < 0.9), chance.randrange(3)] for _ in rows])
    drafts = chosen[:, 1].roll(1).int()  # each is what the row before it has chosen
    is_wrong = torch.tensor([chance.random() < 0.2 for _ in rows])
    state.drafts[: len(rows)] = torch.where(is_wrong, drafts + 1, drafts)
    table = state.table.clone()
    accept_drafts(chosen, table, slots, state.offsets, state.drafts)
    positions = state.table[:, SlotField.POSITION][slots].long() + state.offsets[: len(rows)]
    state.accept(slots, positions, chosen)
    assert torch.equal(table[:4], state.table[:4])
    assert int(table[4, SlotField.POSITION]) == int(state.table[4, SlotField.POSITION]) == 0
