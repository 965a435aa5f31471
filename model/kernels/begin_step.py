"""What a decode step needs to know of its rows, out of the slots on the device, in one launch.

    slots -> tokens, positions, where keys and values go, lengths, block tables

The twin is `DecodeGraphs` in `server/engine/run_ahead/decode_step.py`, which does it without a
kernel.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.choose_tokens import POSITION, TOKEN

CHUNK = 1024  # words of a block table that a program copies


@triton.jit
def begin_step_kernel(
    slots, input_ids, positions, slot_mapping, seq_lens, block_table, rows, table,
    stride_table, max_blocks,
    FIRST_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Grid (rows, chunks of a block table)."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(rows + row).to(tl.int64)
    words = table + slot * stride_table
    blocks = words + FIRST_BLOCK
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    own = tl.load(blocks + at, at < max_blocks, 0)
    tl.store(block_table + row * max_blocks + at, own, at < max_blocks)
    if chunk == 0:
        position = tl.load(words + POSITION)
        block = tl.load(blocks + position // BLOCK_SIZE).to(tl.int64)
        tl.store(slots + row, slot)
        tl.store(input_ids + row, tl.load(words + TOKEN).to(tl.int64))
        tl.store(positions + row, position.to(tl.int64))
        tl.store(slot_mapping + row, block * BLOCK_SIZE + position % BLOCK_SIZE)
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


def begin_step(rows: Tensor, table: Tensor, first_block: int, block_size: int) -> StepRows:
    """rows [R] int32, which slots; table [slots, width] int32, whose words from `first_block` on
    are a block table."""
    num_rows, max_blocks = len(rows), table.shape[1] - first_block
    device = table.device
    longs = [torch.empty(num_rows, dtype=torch.int64, device=device) for _ in range(4)]
    seq_lens = torch.empty(num_rows, dtype=torch.int32, device=device)
    block_table = torch.empty(num_rows, max_blocks, dtype=torch.int32, device=device)
    begin_step_kernel[num_rows, triton.cdiv(max_blocks, CHUNK)](
        *longs, seq_lens, block_table, rows, table, table.stride(0), max_blocks,
        FIRST_BLOCK=first_block, BLOCK_SIZE=block_size, CHUNK=CHUNK, num_warps=4,
    )  # fmt: skip
    return StepRows(*longs, seq_lens, block_table)
