"""What a decode step needs to know of its rows, out of the slots on the device, in one launch.

    slots -> tokens, positions, where keys and values go, lengths, block tables

A guess that is verified is a row of its own, at an offset behind its slot's newest token.

The twin is `DecodeGraphs` in `server/engine/run_ahead/decode_step.py`, which does it without a
kernel.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.batch import GroupBlocks
from thirdeye.model.kernels.choose_tokens import POSITION, TOKEN

CHUNK = 1024  # words of a block table that a program copies


@triton.jit
def begin_step_kernel(
    slots, input_ids, positions, slot_mapping, seq_lens, block_table, rows, offsets, drafts, table,
    stride_table, max_blocks,
    FIRST_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, NUM_GROUPS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Grid (rows, chunks of block tables). A row has `NUM_GROUPS` of them, one behind the other, of
    `max_blocks` words together."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(rows + row).to(tl.int64)
    words = table + slot * stride_table
    blocks = words + FIRST_BLOCK
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    own = tl.load(blocks + at, at < max_blocks, 0)
    tl.store(block_table + row * max_blocks + at, own, at < max_blocks)
    if chunk == 0:
        offset = tl.load(offsets + row)
        position = tl.load(words + POSITION) + offset
        token = tl.load(words + TOKEN)
        token = tl.where(offset == 0, token, tl.load(drafts + row))
        tl.store(slots + row, slot)
        tl.store(input_ids + row, token.to(tl.int64))
        tl.store(positions + row, position.to(tl.int64))
        for group in tl.static_range(NUM_GROUPS):
            own_blocks = blocks + group * (max_blocks // NUM_GROUPS)
            block = tl.load(own_blocks + position // BLOCK_SIZE).to(tl.int64)
            own_slots = slot_mapping + group * tl.num_programs(0)
            tl.store(own_slots + row, block * BLOCK_SIZE + position % BLOCK_SIZE)
        tl.store(seq_lens + row, position + 1)


@dataclass(frozen=True, slots=True)
class StepRows:
    """Of R rows."""

    slots: Tensor  # [R] int64
    input_ids: Tensor  # [R] int64
    positions: Tensor  # [R] int64
    slot_mapping: Tensor  # [R] int64
    seq_lens: Tensor  # [R] int32
    block_table: Tensor  # [R, max_blocks] int32
    other_groups: tuple[GroupBlocks, ...]  # likewise


def begin_step(
    rows: Tensor,
    table: Tensor,
    first_block: int,
    block_size: int,
    num_groups: int = 1,
    *,
    offsets: Tensor,
    drafts: Tensor,
) -> StepRows:
    """rows [R] int32, which slots; offsets [R or more] int32, of rows behind their slots' newest
    tokens, and drafts [R or more] int32, the tokens there; table [slots, width] int32, whose words
    from `first_block` on are block tables, one for each group of layers."""
    num_rows, max_blocks = len(rows), table.shape[1] - first_block
    device = table.device
    sizes = (num_rows, num_rows, num_rows, num_groups * num_rows)
    longs = [torch.empty(size, dtype=torch.int64, device=device) for size in sizes]
    seq_lens = torch.empty(num_rows, dtype=torch.int32, device=device)
    block_table = torch.empty(num_rows, max_blocks, dtype=torch.int32, device=device)
    begin_step_kernel[num_rows, triton.cdiv(max_blocks, CHUNK)](
        *longs, seq_lens, block_table, rows, offsets, drafts, table, table.stride(0), max_blocks,
        FIRST_BLOCK=first_block, BLOCK_SIZE=block_size, NUM_GROUPS=num_groups, CHUNK=CHUNK,
        num_warps=4,
    )  # fmt: skip
    *told, slot_mapping = longs
    tables = block_table.chunk(num_groups, dim=1)  # [R, max_blocks / num_groups] each
    first, *others = map(GroupBlocks, slot_mapping.chunk(num_groups), tables)
    return StepRows(*told, first.slot_mapping, seq_lens, first.block_table, tuple(others))
