"""Logits to tokens in C: the likeliest, or a draw.

The twin is `server/engine/sampling/sampler.py`.
"""

import ctypes
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

ROW = np.dtype(
    [
        ("mask", np.uint64),
        ("seed", np.int64),
        ("position", np.int64),
        ("temperature", np.float32),
        ("top_p", np.float32),
        ("reach", np.float32),
        ("top_k", np.int32),
    ],
    align=True,
)
"""`struct sample_row`."""

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
        self._scratch_for, self._scratch = (0, 0), (torch.empty(0), torch.empty(0))

    def sample(self, logits: Tensor, rows: Iterable[Row]) -> Tensor:
        """logits [R, vocab_size] float32 -> token ids [R] int64, -1 where a logit is no number.

        A row is (mask, seed, position, temperature, top_p, reach, top_k). `mask` is the address of
        one bit for each token, or 0; whoever has the mask keeps it until this returns. `reach` is
        the largest distance from the likeliest, in logits over temperature, that min-p leaves.
        """
        logits = logits.contiguous()
        num_rows, vocab_size = logits.shape
        table = np.array(list(rows), ROW)
        assert len(table) == num_rows
        token_ids = torch.empty(num_rows, dtype=torch.int64)
        distances, sums = self._scratch_of(torch.get_num_threads(), vocab_size)
        args = SampleArgs(
            logits=address(logits, torch.float32, num_rows, vocab_size),
            rows=table.ctypes.data,
            token_ids=token_ids.data_ptr(),
            distances=distances.data_ptr(),
            sums=sums.data_ptr(),
            num_rows=num_rows,
            vocab_size=vocab_size,
        )
        self._run(self._operation, args, is_small=num_rows == 1)
        return token_ids

    def _scratch_of(self, threads: int, vocab_size: int) -> tuple[Tensor, Tensor]:
        """Of each thread: distances [threads, vocab_size + WIDTH] float32, sums [threads, blocks]
        float64. Kept, since it is the same for each step of an engine, and nothing in it is."""
        if self._scratch_for != (threads, vocab_size):
            distances = torch.empty(threads, vocab_size + WIDTH)
            sums = torch.empty(threads, -(-vocab_size // BLOCK), dtype=torch.float64)
            self._scratch_for, self._scratch = (threads, vocab_size), (distances, sums)
        return self._scratch
