"""Attention whose result for a token never depends on its company: the default on the CPU.

A sum of floats depends on its order, and a library chooses the order by the shapes it is given.
Here keys are cut into blocks of 128, counted from position 0; every product reduces over one block
or one head, and blocks are added up one after the other, a sink's share last. What a query may not
see adds exactly 0, so blocks before a tile's windows are left out. A token's bits are the same
alone or in a batch, in a chunk of any length, after any past.
`docs/numerics.md` has the measurements behind it.

Queries of equal count and similar length share one set of calls: sequences that decode are a batch.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thirdeye.model.attention.reference import first_seen
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_int8 import Int8Vectors, parts_of

KEY_BLOCK = 128  # keys in one reduction
QUERY_TILE = 128  # queries of one sequence in one tile: bounds the scores, skips keys none may see
MAX_KEYS = 8192  # keys gathered for one tile, unless one sequence alone has more
MIN_ROWS = 4  # for 1 to 3 rows the library has kernels with another order of sums


@dataclass(frozen=True, slots=True)
class QuerySpan:
    """Consecutive queries of sequence `index`: rows [start, start + n) of the step."""

    index: int
    start: int
    first: int  # the first key that one of them sees,
    begin: int  # and down to a multiple of KEY_BLOCK
    end: int  # the last key of all that one sees, and one


@dataclass(frozen=True, slots=True)
class Tile:
    """`S` spans of `n` queries over `L` keys each; `L` is a multiple of KEY_BLOCK."""

    rows: Tensor  # [S, n] int64, where the queries lie in the step
    keys: Tensor  # [S * num_kv_heads * L] int64, where each head's keys lie in a layer's cache
    is_hidden: Tensor  # [S, 1, 1, n, L] bool: behind a query's own position, before its window
    distances: Tensor | None  # [S, 1, 1, n, L] fp32: from a query back to a key, for ALiBi


class BlockedAttention:
    """Tiles are cut once a step, in `plan`; each layer gathers, scores and adds up."""

    def __init__(self, spec: AttentionSpec = TEXTBOOK) -> None:
        self._spec = spec

    @property
    def plan_key(self) -> tuple[int | None, int | None, bool, int | None]:
        spec = self._spec
        return spec.window, spec.chunk, spec.alibi is not None, spec.num_kv_heads

    def for_layers(self, spec: AttentionSpec) -> "BlockedAttention":
        return type(self)(spec)

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> list[Tile]:
        alike: defaultdict[tuple[int, int], list[QuerySpan]] = defaultdict(list)
        for span, num_queries in _spans(batch, self._spec):
            alike[num_queries, -(-(span.end - span.begin) // KEY_BLOCK)].append(span)
        tiles = []
        for (num_queries, num_blocks), spans in alike.items():
            width = max(1, MAX_KEYS // (num_blocks * KEY_BLOCK))
            tiles += [
                _tile(
                    spans[i : i + width],
                    num_queries,
                    num_blocks * KEY_BLOCK,
                    batch,
                    kv_cache,
                    self._spec,
                )
                for i in range(0, len(spans), width)
            ]
        return tiles

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor | Int8Vectors,
        value_cache: Tensor | Int8Vectors,
        plan: list[Tile],
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        output = query.new_empty(*query.shape[:2], value_cache.shape[3])
        for tile in plan:
            output[tile.rows] = _attend(
                query[tile.rows], key_cache, value_cache, tile, self._spec, sinks, slopes
            )
        return output


def _spans(batch: ForwardBatch, spec: AttentionSpec) -> Iterator[tuple[QuerySpan, int]]:
    """Every sequence's queries in pieces of at most QUERY_TILE, and how many each has."""
    starts, seq_lens = batch.query_start_loc.tolist(), batch.seq_lens.tolist()
    for index, seq_len in enumerate(seq_lens):
        past = seq_len - starts[index + 1]  # from a row of the step to its position
        for start in range(starts[index], starts[index + 1], QUERY_TILE):
            stop = min(start + QUERY_TILE, starts[index + 1])
            first = first_seen(past + stop, stop - start, spec)
            begin = first // KEY_BLOCK * KEY_BLOCK
            yield QuerySpan(index, start, first, begin, past + stop), stop - start


def _tile(
    spans: list[QuerySpan],
    num_queries: int,
    num_keys: int,
    batch: ForwardBatch,
    kv_cache: KVCache,
    spec: AttentionSpec,
) -> Tile:
    device = batch.block_table.device
    block_size, num_kv_heads = kv_cache.block_size, _num_kv_heads(spec, kv_cache)
    firsts, begins, ends = (
        torch.tensor([getattr(span, name) for span in spans], device=device)[:, None]
        for name in ("first", "begin", "end")
    )  # [S, 1]
    starts = torch.tensor([span.start for span in spans], device=device)
    tables = batch.block_table[[span.index for span in spans]]  # [S, M]
    order = torch.arange(num_queries, device=device)
    own = (ends - num_queries + order)[:, :, None]  # [S, n, 1], position of each query
    positions = begins + torch.arange(num_keys, device=device)  # [S, L]
    # Before the windows of all queries, where its blocks may be others' by now, and behind its end
    # the first token that one sees stands in: hidden, but its numbers are the sequence's own.
    present = positions.where((positions >= firsts) & (positions < ends), firsts)
    slots = tables.gather(1, present // block_size).long() * block_size + present % block_size
    heads = torch.arange(num_kv_heads, device=device)[:, None]
    is_hidden = positions[:, None] > own  # [S, n, L]
    if spec.window is not None:
        is_hidden |= positions[:, None] <= own - spec.window
    if spec.chunk is not None:
        is_hidden |= positions[:, None] < own // spec.chunk * spec.chunk
    distances = (own - positions[:, None]).float()[:, None, None] if spec.alibi else None
    return Tile(
        rows=starts[:, None] + order,
        keys=(slots[:, None] * num_kv_heads + heads).flatten(),
        is_hidden=is_hidden[:, None, None],
        distances=distances,
    )


def _num_kv_heads(spec: AttentionSpec, kv_cache: KVCache) -> int:
    """Of the layers that are planned for: those of any, if the spec does not say."""
    return spec.num_kv_heads or int(kv_cache.keys[0].shape[2])


def _attend(
    query: Tensor,
    key_cache: Tensor | Int8Vectors,
    value_cache: Tensor | Int8Vectors,
    tile: Tile,
    spec: AttentionSpec,
    sinks: Tensor | None,
    slopes: Tensor | None,
) -> Tensor:
    """query [S, n, num_heads, head_dim] -> [S, n, num_heads, size of a value]; all sums in fp32."""
    num_spans, num_queries, num_heads, head_dim = query.shape
    num_kv_heads = key_cache.shape[2]
    group = num_heads // num_kv_heads  # query heads that share one key and value head
    num_rows, batch = group * num_queries, num_spans * num_kv_heads
    keys, values = (
        gather(cache, tile.keys).view(batch, -1, cache.shape[3])
        for cache in (key_cache, value_cache)
    )  # [S * num_kv_heads, L, head_dim]
    rows = query.float().view(num_spans, num_queries, num_kv_heads, group, head_dim)
    rows = rows.permute(0, 2, 3, 1, 4)
    rows = rows.reshape(batch, num_rows, head_dim) / spec.divisor(head_dim)
    rows = F.pad(rows, (0, 0, 0, max(0, MIN_ROWS - num_rows)))  # [batch, R, head_dim]
    scores = rows @ keys.mT  # [batch, R, L]
    if spec.softcap is not None:
        scores.div_(spec.softcap).tanh_().mul_(spec.softcap)
    seen = scores[:, :num_rows].view(num_spans, num_kv_heads, group, num_queries, -1)
    if slopes is not None and tile.distances is not None:
        seen.sub_(slopes.view(num_kv_heads, group, 1, 1) * tile.distances)
    seen.masked_fill_(tile.is_hidden, -math.inf)
    column = None if sinks is None else _column(sinks, seen, scores)
    mixed = _mix(scores, values, column)[:, :num_rows]
    mixed = mixed.reshape(num_spans, num_kv_heads, group, num_queries, -1)
    return mixed.permute(0, 3, 1, 2, 4).flatten(2, 3).to(query.dtype)


def gather(cache: Tensor | Int8Vectors, vectors: Tensor) -> Tensor:
    """Vectors of a layer's cache by number, in fp32: [n, head_dim]."""
    numbers, scales = parts_of(cache)
    gathered = numbers.view(-1, numbers.shape[-1]).index_select(0, vectors).float()
    if scales is None:
        return gathered
    return gathered * scales.view(-1).index_select(0, vectors)[:, None]


def _column(sinks: Tensor, seen: Tensor, scores: Tensor) -> Tensor:
    """sinks [num_heads], one for each row of the scores [batch, R, L]: [batch, R, 1].

    `seen` are the rows of queries among them, [S, num_kv_heads, group, n, L].
    """
    own = sinks.float().view(1, *seen.shape[1:3], 1).expand(*seen.shape[:4])
    own = own.reshape(len(scores), -1)  # [batch, rows of queries]
    return F.pad(own, (0, scores.shape[1] - own.shape[1]))[..., None]


def _mix(scores: Tensor, values: Tensor, sinks: Tensor | None) -> Tensor:
    """softmax(scores) @ values: [batch, R, L], [batch, L, head_dim] -> [batch, R, head_dim].

    Overwrites the scores. The maximum is the same in any order; the sums go block by block. `sinks`
    [batch, R, 1] take part in the softmax and have no value.
    """
    peaks = scores.amax(-1, keepdim=True)
    if sinks is not None:
        peaks = peaks.maximum(sinks)
    weights = scores.sub_(peaks).exp_()
    totals = weights.view(*weights.shape[:2], -1, KEY_BLOCK).sum(-1)  # [batch, R, L / KEY_BLOCK]
    mixed = torch.zeros_like(weights[..., :1] * values[:, :1])
    for start in range(0, weights.shape[-1], KEY_BLOCK):
        block = slice(start, start + KEY_BLOCK)
        mixed.baddbmm_(weights[:, :, block], values[:, block])
    total = totals.cumsum(-1)[..., -1:]
    return mixed / (total if sinks is None else total + (sinks - peaks).exp())
