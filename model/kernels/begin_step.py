"""What a decode step needs to know of its rows, out of the slots on the device, in one launch.

    slots -> tokens, positions, where keys and values go, lengths, block tables
    tokens -> their vectors; positions -> what turns heads there

The second line is what a model looks up first of all; of most models it can be had here. A guess
that is verified is a row of its own, at an offset behind its slot's newest token.

The twin is `DecodeGraphs` in `server/engine/run_ahead/decode_step.py`, which does it without a
kernel.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.batch import GroupBlocks, LookedUp, LookUp
from thirdeye.model.kernels.choose_tokens import POSITION, TOKEN
from thirdeye.model.kernels.dependent_launch import begin, launch_options

STATE_SOURCE = tl.constexpr(14)  # of a slot's header, as `choose_tokens` has the others
STATE_TARGET = tl.constexpr(15)
CHUNK = 1024  # words of a block table that a program copies, and channels of a vector


@triton.jit
def begin_step_kernel(
    slots, input_ids, positions, slot_mapping, seq_lens, block_table, rows, offsets, drafts, table,
    stride_table, max_blocks, spans, vectors, turns, vector_table, turn_table, num_positions,
    FIRST_BLOCK: tl.constexpr, BLOCK_SIZE: tl.constexpr, NUM_GROUPS: tl.constexpr,
    CHUNK: tl.constexpr, HAS_STATES: tl.constexpr, WIDTH: tl.constexpr, HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (rows, chunks of block tables or of vectors). A row has `NUM_GROUPS` tables, one behind
    the other, of `max_blocks` words together; its token a vector of `WIDTH`, 0 where that is looked
    up later; its position cos and sin of `HALF`."""
    begin(DEPENDENT)
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(rows + row).to(tl.int64)
    words = table + slot * stride_table
    blocks = words + FIRST_BLOCK
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    own = tl.load(blocks + at, at < max_blocks, 0)
    tl.store(block_table + row * max_blocks + at, own, at < max_blocks)
    offset = tl.load(offsets + row)
    token = tl.where(offset == 0, tl.load(words + TOKEN), tl.load(drafts + row))
    if chunk == 0:
        position = tl.load(words + POSITION) + offset
        tl.store(slots + row, slot)
        tl.store(input_ids + row, token.to(tl.int64))
        tl.store(positions + row, position.to(tl.int64))
        for group in tl.static_range(NUM_GROUPS):
            own_blocks = blocks + group * (max_blocks // NUM_GROUPS)
            block = tl.load(own_blocks + position // BLOCK_SIZE).to(tl.int64)
            own_slots = slot_mapping + group * tl.num_programs(0)
            tl.store(own_slots + row, block * BLOCK_SIZE + position % BLOCK_SIZE)
        tl.store(seq_lens + row, position + 1)
        if HAS_STATES:
            span = spans + 4 * row
            tl.store(span, tl.program_id(0))
            tl.store(span + 1, 1)
            tl.store(span + 2, tl.load(words + STATE_SOURCE))
            tl.store(span + 3, tl.load(words + STATE_TARGET))
        if HALF > 0:
            half = tl.arange(0, BLOCK_HALF)
            for part in tl.static_range(2):  # cos, sin
                of_position = turn_table + (part * num_positions + position.to(tl.int64)) * HALF
                into = turns + (part * tl.num_programs(0) + row) * HALF
                tl.store(into + half, tl.load(of_position + half, half < HALF), half < HALF)
    if WIDTH > 0:
        of_token = vector_table + token.to(tl.int64) * WIDTH
        tl.store(vectors + row * WIDTH + at, tl.load(of_token + at, at < WIDTH), at < WIDTH)


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
    looked_up: LookedUp | None = None
    state_spans: Tensor | None = None  # [R, 4] int32


def begin_step(
    rows: Tensor,
    table: Tensor,
    first_block: int,
    block_size: int,
    num_groups: int = 1,
    look_up: LookUp | None = None,
    *,
    offsets: Tensor,
    drafts: Tensor,
    has_states: bool = False,
) -> StepRows:
    """rows [R] int32, which slots; offsets [R or more] int32, of rows behind their slots' newest
    tokens, and drafts [R or more] int32, the tokens there; table [slots, width] int32, whose words
    from `first_block` on are block tables, one for each group of layers. `look_up`: in which tables
    of the model. `has_states`: the header says from which rows of states into which."""
    num_rows, max_blocks = len(rows), table.shape[1] - first_block
    device = table.device
    sizes = (num_rows, num_rows, num_rows, num_groups * num_rows)
    longs = [torch.empty(size, dtype=torch.int64, device=device) for size in sizes]
    seq_lens = torch.empty(num_rows, dtype=torch.int32, device=device)
    block_table = torch.empty(num_rows, max_blocks, dtype=torch.int32, device=device)
    spans = torch.empty(num_rows, 4, dtype=torch.int32, device=device) if has_states else None
    vectors = turns = None
    width = half = num_positions = 0
    if look_up is not None:
        width, (_, num_positions, half) = look_up.vectors.shape[1], look_up.turns.shape
        vectors = look_up.vectors.new_empty(num_rows, width)
        turns = look_up.turns.new_empty(2, num_rows, 1, half)
    begin_step_kernel[num_rows, triton.cdiv(max(max_blocks, width), CHUNK)](
        *longs, seq_lens, block_table, rows, offsets, drafts, table, table.stride(0), max_blocks,
        spans, vectors, turns, look_up and look_up.vectors, look_up and look_up.turns,
        num_positions,
        FIRST_BLOCK=first_block, BLOCK_SIZE=block_size, NUM_GROUPS=num_groups, CHUNK=CHUNK,
        HAS_STATES=has_states, WIDTH=width, HALF=half,
        BLOCK_HALF=triton.next_power_of_2(max(half, 1)), num_warps=4, **launch_options(device),
    )  # fmt: skip
    looked_up = None
    if vectors is not None and turns is not None:
        looked_up = LookedUp(vectors, turns)
    *told, slot_mapping = longs
    tables = block_table.chunk(num_groups, dim=1)  # [R, max_blocks / num_groups] each
    first, *others = map(GroupBlocks, slot_mapping.chunk(num_groups), tables)
    return StepRows(
        *told, first.slot_mapping, seq_lens, first.block_table, tuple(others), looked_up, spans
    )
