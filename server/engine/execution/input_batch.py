"""StepPlan -> ForwardBatch: pure functions from what is scheduled to the tensors of the step.

Everything is laid out in numpy first, then turned into one tensor each: no tensor is touched twice.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from thirdeye.model.batch import ForwardBatch, GroupBlocks, count_singles
from thirdeye.server.engine.scheduling.step_plan import PlanRow, StepPlan

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


NO_SLOTS: Mapping[int, int] = {}


def build_batch(
    plan: StepPlan,
    block_size: int,
    device: torch.device,
    adapter_slots: Mapping[int, int] = NO_SLOTS,
) -> ForwardBatch:
    """The rows of `plan`, end to end. Logits come in row order: a row's prompt scores, its
    samples. `adapter_slots`: of the adapters that are loaded, by their numbers."""
    rows = plan.rows
    has_adapters = bool(adapter_slots) and any(row.sequence.request.adapter for row in rows)
    if device.type == "cpu" and not has_adapters and all(map(is_plain, rows)):
        return build_decoding(rows, block_size)
    query_start_loc = make_query_start_loc(rows)
    positions = make_positions(rows, query_start_loc)
    tables = [make_block_table(rows, block_size, group) for group in range(num_groups(rows))]
    slots = [make_slots(own, query_start_loc, positions, block_size) for own in tables]
    has_states = bool(rows[0].state_spans)

    def tensor(array: NDArray[np.integer]) -> torch.Tensor:
        host = torch.from_numpy(array)
        if device.type == "cuda":  # from pinned memory a copy waits for nothing
            host = host.pin_memory()
        return host.to(device, non_blocking=True)

    return ForwardBatch(
        input_ids=tensor(make_input_ids(rows)),
        positions=tensor(positions),
        slot_mapping=tensor(slots[0]),
        query_start_loc=tensor(query_start_loc),
        seq_lens=tensor(np.array([row.end for row in rows], np.int32)),
        block_table=tensor(tables[0]),
        logits_indices=tensor(make_logits_indices(rows, query_start_loc)),
        num_singles=count_singles(row.num_scheduled_tokens for row in rows),
        state_spans=tensor(make_state_spans(rows, query_start_loc)) if has_states else None,
        adapter_slots=tensor(make_adapter_slots(rows, adapter_slots)) if has_adapters else None,
        other_groups=tuple(
            [
                GroupBlocks(tensor(own), tensor(table))
                for own, table in zip(slots[1:], tables[1:], strict=True)
            ]
        ),
    )


def is_plain(row: PlanRow) -> bool:
    """Whether it computes one token, to sample the next, in a model of one group without states."""
    return row.num_scheduled_tokens == 1 and is_plainly_decoded(row)


def is_plainly_decoded(row: PlanRow) -> bool:
    """The same, and perhaps guesses behind the token."""
    return (
        row.is_decoded
        and row.score_start == row.score_end
        and not (row.state_spans or row.num_uncertain)
        and len(row.sequence.blocks.tables) == 1
    )


def build_decoding(rows: list[PlanRow], block_size: int) -> ForwardBatch:
    """The same for plain rows: what one token each says needs no sums nor repeats, and each call of
    a library costs a small step some microseconds, as the weights have passed through the caches.
    """
    counted = range(len(rows))
    table = make_block_table(rows, block_size)
    positions = [row.start for row in rows]
    slots = [
        row.sequence.blocks.tables[0][at // block_size] * block_size + at % block_size
        for row, at in zip(rows, positions, strict=True)
    ]
    token_ids = [row.token_ids[0] for row in rows]
    longs = torch.from_numpy(np.array([token_ids, positions, slots, counted], np.int64))
    ints = torch.from_numpy(np.array([*counted, len(rows), *[r.end for r in rows]], np.int32))
    input_ids, at_positions, slot_mapping, logits_indices = longs.unbind()  # [B] each
    return ForwardBatch(
        input_ids=input_ids,
        positions=at_positions,
        slot_mapping=slot_mapping,
        query_start_loc=ints[: len(rows) + 1],
        seq_lens=ints[len(rows) + 1 :],
        block_table=torch.from_numpy(table),
        logits_indices=logits_indices,
        num_singles=len(rows),
    )


def num_groups(rows: list[PlanRow]) -> int:
    return len(rows[0].sequence.blocks.tables)


def make_input_ids(rows: list[PlanRow]) -> Int64s:  # [T]
    token_ids = [t for row in rows for t in row.token_ids]
    return np.array(token_ids, np.int64)


def make_query_start_loc(rows: list[PlanRow]) -> Int32s:  # [B + 1]
    loc = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([row.num_scheduled_tokens for row in rows], out=loc[1:])
    return loc


def make_positions(rows: list[PlanRow], query_start_loc: Int32s) -> Int64s:  # [T]
    """`[start, end)` of each row, one after the other."""
    starts = np.array([row.start for row in rows])
    shifts = starts - query_start_loc[:-1]  # [B], from place in the step to place in the sequence
    return np.arange(query_start_loc[-1]) + np.repeat(shifts, np.diff(query_start_loc))


def make_block_table(rows: list[PlanRow], block_size: int, group: int = 0) -> Int32s:  # [B, M]
    """The blocks that each row reads or writes in this step, padded with 0; so is what lies behind
    a window."""
    lens = [-(-row.end_at_most // block_size) for row in rows]
    table = np.zeros((len(rows), max(lens)), np.int32)
    for b, (row, num_blocks) in enumerate(zip(rows, lens, strict=True)):
        blocks = row.sequence.blocks
        first = blocks.num_behind[group]
        table[b, first:num_blocks] = blocks.tables[group][first:num_blocks]
    return table


def make_slots(
    block_table: Int32s, query_start_loc: Int32s, positions: Int64s, block_size: int
) -> Int64s:  # [T]
    """Where the KV of each token goes: the block of its position, and the offset in it."""
    row_of = np.repeat(np.arange(len(block_table)), np.diff(query_start_loc))  # [T]
    blocks = block_table[row_of, positions // block_size].astype(np.int64)
    return blocks * block_size + positions % block_size


def make_logits_indices(rows: list[PlanRow], query_start_loc: Int32s) -> Int64s:  # [S]
    indices: list[int] = []
    for row, offset in zip(rows, query_start_loc.tolist(), strict=False):
        indices += [offset + p - row.start for p in range(row.score_start, row.score_end)]
        end = offset + row.num_scheduled_tokens
        indices += range(end - row.num_samples, end)
    return np.array(indices, np.int64)


def make_adapter_slots(rows: list[PlanRow], slots: Mapping[int, int]) -> Int32s:  # [T]
    adapters = [row.sequence.request.adapter for row in rows]
    of_rows = [slots[adapter] if adapter else -1 for adapter in adapters]
    return np.repeat(of_rows, [row.num_scheduled_tokens for row in rows]).astype(np.int32)


def make_state_spans(rows: list[PlanRow], query_start_loc: Int32s) -> Int32s:  # [P, 4]
    """Of each span its first place in the step, its tokens, and its rows of the state cache."""
    spans: list[tuple[int, int, int, int]] = []
    for row, offset in zip(rows, query_start_loc.tolist(), strict=False):
        start = row.start
        for span in row.state_spans:
            first = offset + start - row.start
            spans.append((first, span.end - start, span.source, span.target))
            start = span.end
    return np.array(spans, np.int32)
