"""Logits to tokens in C: the likeliest, or a draw.

The twin is `server/engine/sampling/sampler.py`.
"""

import ctypes
from collections.abc import Iterable, Sequence
from struct import Struct

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

ROW = Struct("=Qqq3fi")
"""`struct sample_row`, which has no gaps."""

Row = tuple[int, int, int, float, float, float, int]
BLOCK = 512  # as in sample.c
WIDTH = 16


class SampleArgs(ctypes.Structure):
    """`struct sample_args`."""

    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("token_ids", ctypes.c_void_p),
        ("distances", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("num_rows", ctypes.c_int),
        ("vocab_size", ctypes.c_int),
    )


class SampleKernel:
    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("sample")
        self._args = SampleArgs()
        self._scratch_for = (0, 0)
        self._make_room(1)

    def sample(self, logits: Tensor, rows: Iterable[Row]) -> Tensor:
        """What `choose` gives, as a tensor [R] int64."""
        return torch.tensor(self.choose(logits, list(rows)), dtype=torch.int64)

    def choose(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        """logits [R, vocab_size] float32 -> R token ids, -1 where a logit is no number.

        A row is (mask, seed, position, temperature, top_p, reach, top_k). `mask` is the address of
        one bit for each token, or 0; whoever has the mask keeps it until this returns. `reach` is
        the largest distance from the likeliest, in logits over temperature, that min-p leaves.
        """
        if not logits.is_contiguous():
            logits = logits.contiguous()
        num_rows, vocab_size = logits.shape
        assert len(rows) == num_rows
        if num_rows > len(self._token_ids):
            self._make_room(num_rows)
        for row, asked in enumerate(rows):
            ROW.pack_into(self._rows, row * ROW.size, *asked)
        if self._scratch_for != (torch.get_num_threads(), vocab_size):
            self._make_scratch(torch.get_num_threads(), vocab_size)
        args = self._args
        args.logits = address(logits, torch.float32, num_rows, vocab_size)
        args.num_rows = num_rows
        self._run(self._operation, args, is_small=num_rows == 1)
        return self._token_ids[:num_rows]

    def _make_room(self, num_rows: int) -> None:
        """For so many rows: what C reads and writes, kept from one step to the next."""
        self._rows = (ctypes.c_char * (num_rows * ROW.size))()
        self._token_ids = (ctypes.c_int64 * num_rows)()
        self._args.rows = ctypes.addressof(self._rows)
        self._args.token_ids = ctypes.addressof(self._token_ids)

    def _make_scratch(self, threads: int, vocab_size: int) -> None:
        """Of each thread: distances [threads, vocab_size + WIDTH] float32, sums [threads, blocks]
        float64. Kept, since it is the same for each step of an engine, and nothing in it is."""
        distances = torch.empty(threads, vocab_size + WIDTH)
        sums = torch.empty(threads, -(-vocab_size // BLOCK), dtype=torch.float64)
        self._args.distances, self._args.sums = distances.data_ptr(), sums.data_ptr()
        self._args.vocab_size = vocab_size
        self._scratch_for, self._scratch = (threads, vocab_size), (distances, sums)
