"""Rows of a table by their numbers, in C: embeddings, rotations, the tokens that are asked for.

The twins are `Tensor.index_select`, and for tables in fewer bits `model/parts/compact_table.py`.
"""

import ctypes
from math import prod

import torch
from torch import Tensor

from thirdeye.model.native.library import Library, address

SMALL = 1 << 14  # numbers: less than 10 us of work
GROUP = 32  # as in look_up.c
AS_IT_IS, HALVES, BFLOATS, BYTES = range(4)
FORMS = {torch.float16: HALVES, torch.bfloat16: BFLOATS}


class LookUpArgs(ctypes.Structure):
    """`struct look_up_args`."""

    _fields_ = (
        ("table", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("num_rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("num_tables", ctypes.c_int),
        ("num_ids", ctypes.c_int),
        ("form", ctypes.c_int),
    )


class LookUpKernel:
    """Ids are below the number of rows, who asks has seen to that: beyond them is no number."""

    def __init__(self, library: Library) -> None:
        self._run, self._operation = library.run, library.operation("look_up")

    def as_it_is(self, table: Tensor, dim: int, ids: Tensor, rows: Tensor) -> None:
        """What `table.index_select(dim, ids)` gives, to `rows` of its shape; all dense."""
        shape, width = table.shape, prod(table.shape[dim + 1 :]) * table.itemsize
        args = LookUpArgs(
            table=address(table, table.dtype, *shape),
            rows=address(rows, table.dtype, *shape[:dim], len(ids), *shape[dim + 1 :]),
            num_tables=prod(shape[:dim]),
            num_rows=shape[dim],
            width=width,
            form=AS_IT_IS,
        )
        self._call(args, ids, args.num_tables * width // 4)

    def widened(self, table: Tensor, scales: Tensor | None, ids: Tensor) -> Tensor:
        """table [n, width] of 16 bits, or int8 with scales [n, width / GROUP] float16; ids [T] ->
        [T, width] float32."""
        num_rows, width = table.shape
        rows = table.new_empty(ids.shape[0], width, dtype=torch.float32)
        args = LookUpArgs(
            table=address(table, table.dtype, num_rows, width),
            rows=rows.data_ptr(),
            num_tables=1,
            num_rows=num_rows,
            width=width,
            form=BYTES if scales is not None else FORMS[table.dtype],
        )
        if scales is not None:
            args.scales = address(scales, torch.float16, num_rows, width // GROUP)
        self._call(args, ids, width)
        return rows

    def _call(self, args: LookUpArgs, ids: Tensor, numbers_each: int) -> None:
        args.ids, args.num_ids = address(ids, torch.int64, -1), ids.shape[0]
        self._run(self._operation, args, is_small=args.num_ids * numbers_each < SMALL)
