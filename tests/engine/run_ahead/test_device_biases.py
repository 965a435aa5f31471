"""SlotMasks, held-back ends, biases and penalties of all slots in one set of calls, against the
processors that take one row at a time: bit for bit the same logits."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.draws import draws
from tests.engine.toy import make_request
from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.grammar.bitmask import RowMasks, apply_masks, empty_masks
from thirdeye.server.engine.interface.types import SamplingParams
from thirdeye.server.engine.run_ahead.device_biases import MAX_BIASES, MAX_STOPS, fits_device_state
from thirdeye.server.engine.run_ahead.device_bitmask import MaskUpdate
from thirdeye.server.engine.run_ahead.device_state import DeviceState, StateLayout
from thirdeye.server.engine.run_ahead.slot_table import SlotTable
from thirdeye.server.engine.sampling.logits_processors import make_processors
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.step_plan import PlanRow

VOCAB, NUM_SLOTS, BLOCK_SIZE = 70, 5, 4
EOS = [0, 33]
CPU = torch.device("cpu")
ID = st.integers(0, VOCAB - 1)
ROW = st.fixed_dictionaries(
    {
        "prompt": st.lists(ID, min_size=1, max_size=4),
        "answer": st.lists(ID, max_size=4),
        "allowed": st.none() | st.sets(ID | st.sampled_from(EOS), min_size=1, max_size=3),
        "min_tokens": st.sampled_from([0, 0, 2, 3, 4, 5]),
        "stop_token_ids": st.lists(ID, max_size=3),
        "logit_bias": st.dictionaries(ID, st.floats(-100, 100, width=32), max_size=4),
        "frequency_penalty": st.sampled_from([0.0, 0.3]),
        "repetition_penalty": st.sampled_from([1.0, 1.3]),
    }
)


def row_of(wishes: dict[str, object]) -> PlanRow:
    """A decoding sequence's next step."""
    own = dict(wishes)
    prompt, answer, allowed = (own.pop(name) for name in ("prompt", "answer", "allowed"))
    request = make_request(prompt=prompt, max_tokens=9, **own)  # type: ignore[arg-type]  # drawn
    request = structs.replace(request, grammar="some" if allowed else "")
    sequence = Sequence(request, max_tokens=9, arrival=0, timings=SequenceTimings(0.0))
    sequence.token_ids += answer  # type: ignore[operator]  # a list of ids
    sequence.blocks = BlockTables([[0, 1, 2]], [0])
    end = len(sequence.token_ids)
    return PlanRow(sequence, end - 1, end, end, end, is_sampled=True)


@draws(25, 100, database=None)
@given(waves=st.lists(st.lists(ROW, min_size=1, max_size=NUM_SLOTS), min_size=1, max_size=3))
def test_they_are_those_of_the_host(waves: list[list[dict[str, object]]]) -> None:
    """In slots that others have left; of rows that ask for anything or for nothing."""
    layout = StateLayout(NUM_SLOTS, 3, len(EOS))
    state = DeviceState(layout, 9, VOCAB, CPU)
    slots = SlotTable(layout, BLOCK_SIZE, VOCAB, EOS)
    processors = make_processors(EOS)
    for number, wave in enumerate(waves):
        rows = [row_of(wishes) for wishes in wave]
        told = slots.sync(rows, is_decode=True)
        state.apply(slots.pop_update(pin=False))
        own = torch.tensor([t.slot for t in told])
        positions = torch.tensor([row.end for row in rows])
        masked = [i for i, wishes in enumerate(wave) if wishes["allowed"]]
        masks = empty_masks(len(masked), VOCAB)
        for mask, i in zip(masks, masked, strict=True):
            bits = np.isin(np.arange(32 * masks.shape[1]), list(wave[i]["allowed"]))  # type: ignore[call-overload]  # a set
            mask[:] = np.packbits(bits, bitorder="little").view(np.int32)
        state.masks.apply(MaskUpdate(own[masked], torch.from_numpy(masks)))
        seed = torch.Generator().manual_seed(number)
        logits = torch.randn(len(rows), VOCAB, generator=seed) * 3
        logits[:, 3] = -torch.inf
        ours = state.penalize(state.bias(state.mask(logits, own), own, positions), own)
        apply_masks(logits, RowMasks(masked, masks))
        for i, row in enumerate(rows):
            for processor in processors:
                processor(logits[i], row.sequence)
        assert torch.equal(ours, logits)


def test_whoever_asks_for_nothing_is_told_nothing() -> None:
    """No entry of a table is sent for a sequence that has none, only its slot's words."""
    layout = StateLayout(NUM_SLOTS, 3, len(EOS))
    slots = SlotTable(layout, BLOCK_SIZE, VOCAB, EOS)
    plain = {"prompt": [5], "answer": [], "allowed": None}
    slots.sync([row_of(plain)], is_decode=True)
    update = slots.pop_update(pin=False)
    assert update.words is not None
    assert int(update.words[0].max()) < layout.rows
    slots.sync([row_of(plain | {"logit_bias": {7: 1.0}})], is_decode=True)
    update = slots.pop_update(pin=False)
    assert update.words is not None
    assert (update.words[0] >= layout.ends).sum() == 2


def test_what_there_is_no_room_for() -> None:
    """More than the API lets through, and ids that are no tokens: the host's path refuses those by
    themselves, where a device's would take every row with it."""
    limits = {"max_tokens": 1, "min_tokens": 1}

    def fits(eos: list[int] = EOS, **wishes: object) -> bool:
        return fits_device_state(SamplingParams(**(limits | wishes)), eos, VOCAB)  # type: ignore[arg-type]  # plain

    assert fits(logit_bias={69: 1.0}, stop_token_ids=[69])
    assert not fits(logit_bias={70: 1.0})
    assert not fits(logit_bias={-1: 1.0})
    assert not fits(stop_token_ids=[70])
    assert fits(stop_token_ids=[70], min_tokens=0)  # it is never chosen, and never held back
    assert not fits(stop_token_ids=[1] * (MAX_STOPS + 1))
    assert not fits(eos=[70])
    big = SamplingParams(max_tokens=1, logit_bias=dict.fromkeys(range(MAX_BIASES + 1), 1.0))
    assert not fits_device_state(big, [], MAX_BIASES + 1)
