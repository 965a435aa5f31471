"""What adapters add to a linear layer's outputs, y += B (A x), on a GPU.

Two kernels: a number of A x is one program's sum over the inputs, block by block, and a number of
B (A x) one program's over the ranks, added to y once. A program sees one token, so a token's bits
do not depend on its batch; one without an adapter is not touched. Factors of all adapters are found
by their addresses, in a table of the layer's: nothing is copied when one comes or goes, and no step
asks the host who is in it. The twin is `GroupedAddends` in `model/lora/adapted.py`.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from thirdeye.model.declare.lora import MAX_PIECES
from thirdeye.model.kernels.dependent_launch import begin, launch_options

RANKS, INPUTS, OUTPUTS = 16, 256, 128  # of a program, or of a piece of its loop
FIELDS = 5  # of a piece in the table: address of B, first output, outputs, first rank, rank
WIDTH = 2 + FIELDS * MAX_PIECES  # of a slot in the table: address of A, its ranks, and the pieces


@triton.jit
def reduce_kernel(
    inner, x, slots, table, in_features, max_rank,
    WIDTH: tl.constexpr, RANKS: tl.constexpr, INPUTS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    if slot >= 0:
        entry = table + slot * WIDTH
        a = tl.load(entry).to(tl.pointer_type(x.dtype.element_ty))
        rank = tl.load(entry + 1)
        ranks = tl.program_id(1) * RANKS + tl.arange(0, RANKS)
        sums = tl.zeros([RANKS], tl.float32)
        for start in range(0, in_features, INPUTS):
            inputs = start + tl.arange(0, INPUTS)
            each = tl.load(x + token * in_features + inputs, inputs < in_features, 0.0)
            rows = ranks[:, None].to(tl.int64) * in_features + inputs[None, :]
            is_inside = (ranks[:, None] < rank) & (inputs[None, :] < in_features)
            factors = tl.load(a + rows, is_inside, 0.0).to(tl.float32)
            sums += tl.sum(factors * each[None, :].to(tl.float32), 1)
        tl.store(inner + token * max_rank + ranks, sums, ranks < rank)


@triton.jit
def expand_kernel(
    y, inner, slots, table, out_features, max_rank,
    WIDTH: tl.constexpr, FIELDS: tl.constexpr, PIECES: tl.constexpr,
    RANKS: tl.constexpr, OUTPUTS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    begin(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    if slot >= 0:
        outputs = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
        sums = tl.zeros([OUTPUTS], tl.float32)
        for number in tl.static_range(PIECES):
            piece = table + slot * WIDTH + 2 + number * FIELDS
            b = tl.load(piece).to(tl.pointer_type(y.dtype.element_ty))
            own = outputs - tl.load(piece + 1)
            count = tl.load(piece + 2)
            first_rank, rank = tl.load(piece + 3), tl.load(piece + 4)
            is_own = (own >= 0) & (own < count)
            for start in range(0, rank, RANKS):
                ranks = start + tl.arange(0, RANKS)
                each = tl.load(inner + token * max_rank + first_rank + ranks, ranks < rank, 0.0)
                at = own[:, None].to(tl.int64) * rank + ranks[None, :]
                is_inside = is_own[:, None] & (ranks[None, :] < rank)
                factors = tl.load(b + at, is_inside, 0.0).to(tl.float32)
                sums += tl.sum(factors * each[None, :], 1)
        target = y + token * out_features + outputs
        is_inside = outputs < out_features
        before = tl.load(target, is_inside, 0.0).to(tl.float32)
        tl.store(target, (before + sums).to(y.dtype.element_ty), is_inside)


Packed = tuple[list[int], list[Tensor]]


class TritonLora:
    """y += B (A x) for one layer, with as many adapters as there are slots."""

    def __init__(self, in_features: int, out_features: int, num_slots: int) -> None:
        self._in, self._out = in_features, out_features
        self._rows = torch.zeros(num_slots, WIDTH, dtype=torch.int64)
        self._table: Tensor | None = None  # the same, where the factors are
        self._kept: list[list[Tensor]] = [[] for _ in range(num_slots)]

    def packed(self, pieces: Sequence[tuple[slice, Tensor, Tensor]]) -> Packed:
        """An adapter for `put`: (outputs, A [rank, in], B [outputs, rank]) of each piece. It may be
        made by another thread."""
        a = torch.cat([a for _, a, _ in pieces]).contiguous()
        row, kept, first_rank = [a.data_ptr(), len(a)], [a], 0
        for outputs, _, own in pieces:
            b, rank = own.contiguous(), own.shape[1]
            row += [b.data_ptr(), outputs.start, outputs.stop - outputs.start, first_rank, rank]
            kept.append(b)
            first_rank += rank
        return row, kept

    def put(self, slot: int, packed: Packed) -> None:
        """The adapter of this slot."""
        self._write(slot, *packed)
        a = packed[1][0]
        if a.is_cuda:  # else the first step with it would wait for the compiler
            none = torch.full((1,), -1, dtype=torch.int32, device=a.device)
            self.add(a.new_zeros(1, self._out), a.new_zeros(1, self._in), none)

    def remove(self, slot: int) -> None:
        """Nobody computes with it any more."""
        self._write(slot, [], [])

    def _write(self, slot: int, row: list[int], kept: list[Tensor]) -> None:
        self._rows[slot] = torch.tensor(row + [0] * (WIDTH - len(row)))
        if kept:
            self._table = self._rows.to(kept[0].device)
        elif self._table is not None:
            self._table = self._rows.to(self._table.device)
        self._kept[slot] = kept

    def add(self, y: Tensor, x: Tensor, slots: Tensor) -> None:
        """To y [T, out], from x [T, in]; slots [T] int32, below 0: this token has none."""
        most, num_tokens = int(self._rows[:, 1].max()), len(x)
        if self._table is None or not most or not num_tokens:
            return
        assert y.is_contiguous()
        x = x.contiguous()
        inner = torch.empty(num_tokens, most, dtype=torch.float32, device=x.device)
        reduce_kernel[(num_tokens, triton.cdiv(most, RANKS))](
            inner, x, slots, self._table, self._in, most,
            WIDTH=WIDTH, RANKS=RANKS, INPUTS=INPUTS, num_warps=4, **launch_options(x.device),
        )  # fmt: skip
        expand_kernel[(num_tokens, triton.cdiv(self._out, OUTPUTS))](
            y, inner, slots, self._table, self._out, most,
            WIDTH=WIDTH, FIELDS=FIELDS, PIECES=MAX_PIECES, RANKS=RANKS, OUTPUTS=OUTPUTS,
            num_warps=4, **launch_options(x.device),
        )  # fmt: skip
