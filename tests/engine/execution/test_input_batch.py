"""The tensors of a step against an obvious twin, one token at a time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.toy import make_request
from thirdeye.server.engine.cache.grouped_blocks import BlockTables
from thirdeye.server.engine.execution.input_batch import build_batch
from thirdeye.server.engine.scheduling.sequence import Sequence
from thirdeye.server.engine.scheduling.sequence_timings import SequenceTimings
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan


@st.composite
def plans(draw: st.DrawFn, block_size: int) -> StepPlan:
    """`are_decoded`, all of them or none: a token each, to sample the next."""
    rows: list[PlanRow] = []
    are_decoded = draw(st.booleans())
    for i in range(draw(st.integers(1, 5))):
        prompt = draw(st.lists(st.integers(0, 99), min_size=1, max_size=20))
        sequence = Sequence(
            request=make_request(str(i), prompt),
            max_tokens=9,
            arrival=i,
            timings=SequenceTimings(0.0),
        )
        num_blocks = -(-len(prompt) // block_size)
        table = st.lists(st.integers(0, 500), min_size=num_blocks, max_size=num_blocks)
        sequence.blocks = BlockTables([draw(table)], [0])
        start = draw(st.integers(0, len(prompt) - 1))
        if are_decoded:
            rows.append(PlanRow(sequence, start, start + 1, start, start, is_sampled=True))
            continue
        end = draw(st.integers(start + 1, len(prompt)))
        score_start = draw(st.integers(start, end))
        score_end = draw(st.integers(score_start, end))
        rows.append(PlanRow(sequence, start, end, score_start, score_end, draw(st.booleans())))
    return StepPlan(rows)


@settings(deadline=None)
@given(data=st.data(), block_size=st.sampled_from([1, 3, 16]))
def test_as_an_obvious_loop(data: st.DataObject, block_size: int) -> None:
    plan = data.draw(plans(block_size))
    batch = build_batch(plan, block_size, torch.device("cpu"))
    input_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    starts, lens = [0], list[int]()
    logits_indices: list[int] = []
    for b, row in enumerate(plan.rows):
        for position in range(row.start, row.end):
            if row.score_start <= position < row.score_end:
                logits_indices.append(len(input_ids))
            block_id = row.sequence.block_table[position // block_size]
            input_ids.append(row.sequence.token_ids[position])
            positions.append(position)
            slots.append(block_id * block_size + position % block_size)
        if row.is_sampled:
            logits_indices.append(len(input_ids) - 1)
        starts.append(len(input_ids))
        lens.append(row.end)
        for position in range(row.end):
            expected = row.sequence.block_table[position // block_size]
            assert batch.block_table[b, position // block_size] == expected
    assert batch.input_ids.tolist() == input_ids
    assert batch.positions.tolist() == positions
    assert batch.slot_mapping.tolist() == slots
    assert batch.query_start_loc.tolist() == starts
    assert batch.seq_lens.tolist() == lens
    assert batch.logits_indices.tolist() == logits_indices
    counts = [row.end - row.start for row in plan.rows]
    assert batch.num_singles == next((b for b, n in enumerate(counts) if n > 1), len(counts))
    widest = max(-(-row.end // block_size) for row in plan.rows)
    assert batch.block_table.shape == (len(plan.rows), widest)
    for name in ("input_ids", "positions", "slot_mapping", "logits_indices"):
        assert getattr(batch, name).dtype == torch.int64, name
    for name in ("query_start_loc", "seq_lens", "block_table"):
        assert getattr(batch, name).dtype == torch.int32, name
