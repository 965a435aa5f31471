"""Attention over a paged KV cache in C: its arguments, its scratch memory, its call.

`paged_attention.c` says what is computed and why its result never depends on a token's company.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.native.library import Library, address
from thirdeye.model.state.kv_int8 import Int8Vectors, parts_of

KEPT = (torch.float32, torch.float16, torch.int8)
KEYS = 64  # in a block, which is reduced as one
WIDTH = 16
ROWS = 6
ITEMS_PER_THREAD = 8  # with fewer, a slow one holds up the step
MAX_PART_FLOATS = 1 << 20  # 4 MB: what blocks may leave behind before they are merged


class ScoreArgs(ctypes.Structure):
    """`struct score_args`."""

    _fields_ = (
        ("divisor", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("window", ctypes.c_int),
        ("chunk", ctypes.c_int),
    )


class PagedAttentionArgs(ctypes.Structure):
    """`struct paged_attention_args`."""

    _fields_ = (
        ("query", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
        ("block_table", ctypes.c_void_p),
        ("tiles", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("parts", ctypes.c_void_p),
        ("sinks", ctypes.c_void_p),
        ("slopes", ctypes.c_void_p),
        ("scratch_floats", ctypes.c_int64),
        ("part_floats", ctypes.c_int64),
        ("score", ctypes.c_void_p),
        ("num_tiles", ctypes.c_int),
        ("max_rows", ctypes.c_int),
        ("max_blocks", ctypes.c_int),
        ("table_width", ctypes.c_int),
        ("block_size", ctypes.c_int),
        ("num_heads", ctypes.c_int),
        ("num_kv_heads", ctypes.c_int),
        ("head_dim", ctypes.c_int),
        ("value_dim", ctypes.c_int),
        ("number_bytes", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class Tiles:
    """Consecutive queries of one sequence each: work for one thread and one key head."""

    tiles: Tensor  # [N, 4] int32: sequence, first row of the step, count, position of the first
    block_table: Tensor  # [B, M] int32
    max_queries: int  # in any tile
    max_blocks: int  # of keys, that any tile sees


class PagedAttentionKernel:
    def __init__(self, library: Library, spec: AttentionSpec = TEXTBOOK) -> None:
        self._run, self._operation = library.run, library.operation("paged_attention")
        self._spec = spec
        # Of keys that one query sees: None for any number.
        self._reach = min((n for n in (spec.window, spec.chunk) if n is not None), default=None)
        self._score: dict[int, ScoreArgs] = {}  # by head_dim, which the first query says

    def __call__(
        self,
        query: Tensor,
        keys: Tensor | Int8Vectors,
        values: Tensor | Int8Vectors,
        tiles: Tiles,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        """query [T, num_heads, head_dim] fp32, keys and values [num_blocks, block_size,
        num_kv_heads, head_dim] fp32, fp16 or int8, sinks and slopes [num_heads] fp32 -> [T,
        num_heads, size of a value]. Values may be the last channels of the keys."""
        num_heads, head_dim = query.shape[1:]
        block_size, num_kv_heads = keys.shape[1:3]
        value_dim = values.shape[3]
        key_numbers, key_scales = parts_of(keys)
        value_numbers, value_scales = parts_of(values)
        assert key_numbers.dtype in KEPT, key_numbers.dtype
        max_rows = tiles.max_queries * (num_heads // num_kv_heads)
        score = self._score.get(head_dim) or self._score_args(head_dim)
        scratch = _scratch(max_rows, head_dim, value_dim)
        max_blocks = self._blocks_in_window(tiles) if self._reach else tiles.max_blocks
        parts = _parts(
            len(tiles.tiles) * num_kv_heads, max_blocks, state_floats(max_rows, value_dim)
        )
        output = query.new_empty(*query.shape[:2], value_dim)
        args = PagedAttentionArgs(
            query=address(query, torch.float32, -1, num_heads, head_dim),
            output=output.data_ptr(),
            keys=address(key_numbers, key_numbers.dtype, -1, block_size, num_kv_heads, head_dim),
            values=_address_of_values(value_numbers, key_numbers),
            block_table=address(tiles.block_table, torch.int32, -1, -1),
            tiles=address(tiles.tiles, torch.int32, -1, 4),
            scratch=scratch.data_ptr(),
            parts=None if parts is None else parts.data_ptr(),
            scratch_floats=scratch.shape[1],
            part_floats=0 if parts is None else parts.shape[2],
            score=ctypes.addressof(score),
            num_tiles=len(tiles.tiles),
            max_rows=max_rows,
            max_blocks=max_blocks,
            table_width=tiles.block_table.shape[1],
            block_size=block_size,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            number_bytes=key_numbers.itemsize,
        )
        if key_scales is not None and value_scales is not None:
            args.key_scales = address(key_scales, torch.float32, *keys.shape[:3])
            args.value_scales = address(value_scales, torch.float32, *keys.shape[:3])
        if sinks is not None:
            args.sinks = address(sinks, torch.float32, num_heads)
        if slopes is not None:
            args.slopes = address(slopes, torch.float32, num_heads)
        self._run(self._operation, args)
        return output

    def _score_args(self, head_dim: int) -> ScoreArgs:
        spec = self._spec
        args = ScoreArgs(
            spec.divisor(head_dim), spec.softcap or 0.0, spec.window or 0, spec.chunk or 0
        )
        return self._score.setdefault(head_dim, args)  # kept: C and tapes have its address

    def _blocks_in_window(self, tiles: Tiles) -> int:
        """Of keys, at most, that any tile sees."""
        assert self._reach is not None
        num_keys = self._reach + tiles.max_queries - 1
        return min(tiles.max_blocks, (num_keys + 2 * KEYS - 2) // KEYS)  # wherever they begin


def _address_of_values(values: Tensor, keys: Tensor) -> int:
    """They lie beside the keys, in the same way, or are the last channels of these."""
    if values.stride() == keys.stride() and values.shape[3] < keys.shape[3]:
        end = keys.data_ptr() + keys.shape[3] * keys.itemsize
        assert values.data_ptr() == end - values.shape[3] * values.itemsize
        return values.data_ptr()
    return address(values, keys.dtype, *keys.shape)


def _scratch(max_rows: int, head_dim: int, value_dim: int) -> Tensor:
    """[threads, floats]: what each needs, as `scratch_at` in C cuts it up."""
    blocks = (max_rows + KEYS) * padded(head_dim) + KEYS * padded(value_dim) + ROWS * KEYS
    states = state_floats(ROWS, value_dim) + state_floats(max_rows, value_dim)
    return torch.empty(torch.get_num_threads(), blocks + states)


def _parts(items: int, max_blocks: int, floats: int) -> Tensor | None:
    """[items, max_blocks, floats], an item being a key head of a tile, for threads that share its
    blocks; None where there are items enough for all of them. The result is the same."""
    num_threads = torch.get_num_threads()
    is_enough = num_threads == 1 or items >= ITEMS_PER_THREAD * num_threads
    if is_enough or items * max_blocks * floats > MAX_PART_FLOATS:
        return None
    return torch.empty(items, max_blocks, floats)


def state_floats(num_rows: int, value_dim: int) -> int:
    """A peak, 16 sums and the mixed values of each row."""
    return padded(num_rows) + num_rows * (WIDTH + padded(value_dim))


def padded(size: int) -> int:
    return -(-size // WIDTH) * WIDTH
