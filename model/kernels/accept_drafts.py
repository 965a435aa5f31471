"""How far each slot of a step that verifies guesses goes on, in one launch.

    rows of a slot    newest token   draft 1   draft 2   draft 3
    chosen            x              y         z         ...
                      draft 1 = x?   2 = y?    ...

A draft counts if the row before it has chosen just that, all before it count, and its own logits
are numbers. What the last row that counts has chosen is the slot's newest token. The twin is
`DeviceState.accept` in `server/engine/run_ahead/device_state.py`.
"""

import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.kernels.choose_tokens import POSITION, TOKEN
from thirdeye.model.kernels.dependent_launch import begin, launch_options

MOST_DRAFTS = 64  # of one slot: as many as the setting takes


@triton.jit(
    do_not_specialize=("num_rows", "stride_table", "scrap"),
    do_not_specialize_on_alignment=("offsets", "drafts"),  # it differs by the sizes of a server
)
def accept_kernel(
    table, chosen, slots, offsets, drafts, num_rows, stride_table, scrap, MOST: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (rows). The program of the last row that counts writes for its slot."""
    begin(DEPENDENT)
    row = tl.program_id(0)
    offset = tl.load(offsets + row)
    behind = tl.arange(0, MOST)
    is_draft = behind < offset
    at = row - behind  # this row and those before it, as far as they are drafts
    draft = tl.load(drafts + at, is_draft, 0).to(tl.int64)
    before = tl.load(chosen + (at - 1) * 2 + 1, is_draft, 0)
    is_number = tl.load(chosen + at * 2, is_draft, 1)
    num_wrong = tl.sum((is_draft & ((draft != before) | (is_number == 0))).to(tl.int32), 0)
    has_next = row + 1 < num_rows
    is_next = tl.load(offsets + row + 1, has_next, 0) > 0
    token = tl.load(chosen + row * 2 + 1)
    is_next &= tl.load(drafts + row + 1, has_next, 0).to(tl.int64) == token
    is_next &= tl.load(chosen + (row + 1) * 2, has_next, 0) != 0
    if (num_wrong == 0) & (not is_next):
        slot = tl.load(slots + row).to(tl.int64)
        words = table + slot * stride_table
        tl.store(words + TOKEN, token.to(tl.int32))
        num_further = tl.where(slot == scrap, 0, offset + 1)
        tl.store(words + POSITION, tl.load(words + POSITION) + num_further)


def accept_drafts(
    chosen: Tensor, table: Tensor, slots: Tensor, offsets: Tensor, drafts: Tensor
) -> None:
    """chosen [R, 2] int64 of `choose_tokens`; table [slots + 1, width] int32, whose last slot is
    scrap; slots [R] int64; offsets and drafts [R or more] int32: a slot's rows follow each other,
    with offsets 0, 1, 2, ... of `MOST_DRAFTS` at most. Slots go on in `table`."""
    num_rows = len(slots)
    accept_kernel[(num_rows,)](
        table, chosen, slots, offsets, drafts, num_rows, table.stride(0), len(table) - 1,
        MOST=MOST_DRAFTS, num_warps=2, **launch_options(table.device),
    )  # fmt: skip
