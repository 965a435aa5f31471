"""What adapters add to a linear layer's outputs, in C: the table of a layer's adapters, its call.

`lora.c` says what is computed and in which order. The table stays where it is, so that steps on
tape find adapters that came after they were recorded.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from thirdeye.model.declare.lora import MAX_PIECES, MAX_RANK
from thirdeye.model.native.library import Library, address


class LoraPiece(ctypes.Structure):
    """`struct lora_piece`."""

    _fields_ = (
        ("b", ctypes.c_void_p),
        ("first_output", ctypes.c_int),
        ("num_outputs", ctypes.c_int),
        ("first_rank", ctypes.c_int),
        ("rank", ctypes.c_int),
    )


class LoraSlot(ctypes.Structure):
    """`struct lora_slot`."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("rank", ctypes.c_int),
        ("num_pieces", ctypes.c_int),
        ("pieces", LoraPiece * MAX_PIECES),
    )


class LoraArgs(ctypes.Structure):
    """`struct lora_args`."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("inner", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int),
        ("in_features", ctypes.c_int),
        ("out_features", ctypes.c_int),
        ("max_rank", ctypes.c_int),
    )


Packed = tuple[LoraSlot, list[Tensor]]


class LoraKernel:
    """y += B (A x) for one layer, with as many adapters as there are slots."""

    def __init__(
        self, library: Library, in_features: int, out_features: int, num_slots: int
    ) -> None:
        self._run, self._operation = library.run, library.operation("lora")
        self._in, self._out = in_features, out_features
        self._table = (LoraSlot * num_slots)()
        self._kept: list[list[Tensor]] = [[] for _ in range(num_slots)]  # C has their addresses

    def packed(self, pieces: Sequence[tuple[slice, Tensor, Tensor]]) -> Packed:
        """An adapter for `put`: (outputs, A [rank, in], B [outputs, rank]) of each piece. It may be
        made by another thread."""
        a = torch.cat([a for _, a, _ in pieces]).contiguous()
        entry = LoraSlot(address(a, torch.float32, -1, self._in), len(a), len(pieces))
        kept, first_rank = [a], 0
        for i, (outputs, _, b) in enumerate(pieces):
            rank, count = b.shape[1], outputs.stop - outputs.start
            turned = b.t().contiguous()
            entry.pieces[i] = LoraPiece(
                address(turned, torch.float32, rank, count), outputs.start, count, first_rank, rank
            )
            kept.append(turned)
            first_rank += rank
        return entry, kept

    def put(self, slot: int, packed: Packed) -> None:
        """The adapter of this slot."""
        self._table[slot], self._kept[slot] = packed

    def remove(self, slot: int) -> None:
        """Nobody computes with it any more."""
        self._table[slot], self._kept[slot] = LoraSlot(), []

    def add(self, y: Tensor, x: Tensor, slots: Tensor) -> None:
        """To y [T, out], from x [T, in]; slots [T] int32, below 0: this token has none."""
        x, num_tokens = x.contiguous(), len(x)
        max_rank = MAX_PIECES * MAX_RANK  # of any that will ever be here: it may be on tape
        inner = x.new_empty(num_tokens, max_rank)
        args = LoraArgs(
            x=address(x, torch.float32, num_tokens, self._in),
            y=address(y, torch.float32, num_tokens, self._out),
            inner=inner.data_ptr(),
            slots=address(slots, torch.int32, num_tokens),
            table=ctypes.addressof(self._table),
            num_tokens=num_tokens,
            in_features=self._in,
            out_features=self._out,
            max_rank=max_rank,
        )
        self._run(self._operation, args)
