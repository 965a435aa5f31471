"""Causal attention over a paged KV cache: one kernel for prompts, chunks and single tokens.

    queries of a tile        BLOCK_Q tokens x the query heads that share one KV head: BLOCK_M rows
    keys of a sequence       split 0 | split 1 | split 2 | ...       KEYS_PER_SPLIT keys each
    a lane                   computes every so manieth split: lane, lane + number of lanes, ...

Within a split the softmax runs online, tile by tile of BLOCK_N keys (Milakov, Gimelshein 2018; Dao
2023); splits are then merged one after the other, from the first. With one lane that happens in the
kernel's own registers, with several (few sequences, long contexts: "flash decoding") each split
leaves its share in memory and `merge_splits_kernel` does the same sum in the same order. Splits are
cut at fixed positions, so a token's bits depend neither on the number of lanes nor on its batch.

Heads that look at one key may be more than a program takes: they are then several groups, whose key
is the same, a stride of 0 apart. Values may be a part of the keys, and narrower.

In a step of single tokens the kernel can take queries, keys and values as they are projected: each
program norms and turns its own queries, and the one that computes a sequence's last split, where
the new key is, puts key and value into the cache first (`rope_kv.py`, whose launch it saves).

The grid depends on the number of tokens and never on their lengths, which are read on the device: a
captured graph can be replayed as sequences grow.
"""

import triton
import triton.language as tl

from thirdeye.model.kernels.dependent_launch import begin
from thirdeye.model.kernels.rope_kv import kept_value, turn_heads, write_vector

# Integers that change from step to step: one machine code for all, compiled before anybody waits.
BY_BATCH = ("first_sequence", "stop_sequence", "stride_table", "max_splits")


@triton.jit
def find_tile(tile, query_start_loc, first_sequence, stop_sequence, BLOCK_Q: tl.constexpr):
    """The sequence of a tile, from the first that is computed to the last, and the tile's number
    within it.

    Sequence b owns the tiles from `query_start_loc[b] // BLOCK_Q + b` on: enough for its queries
    wherever they begin, and found by bisection without a table of tiles.
    """
    low, high = first_sequence, stop_sequence
    tile += tl.load(query_start_loc + first_sequence) // BLOCK_Q + first_sequence
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_start_loc + middle) // BLOCK_Q + middle <= tile:
            low = middle + 1
        else:
            high = middle
    sequence = low - 1
    first = tl.load(query_start_loc + sequence) // BLOCK_Q + sequence
    return sequence, tile - first


@triton.jit
def merge(maximum, total, mixed, split_maximum, split_total, split_mixed):
    """Two partial softmaxes as one: maxima and totals [M], mixed values [M, D].

    What has seen no key has the maximum -inf and the total 0.
    """
    both = tl.maximum(maximum, split_maximum)
    base = tl.where(both == -float("inf"), 0.0, both)  # -inf - -inf is not a number
    old, new = tl.exp2(maximum - base), tl.exp2(split_maximum - base)
    total = total * old + split_total * new
    mixed = mixed * old[:, None] + split_mixed * new[:, None]
    return both, total, mixed


@triton.jit
def power_of_2(exponents):
    """2 ** (exponent - 127), by putting it where a float32 has its exponent."""
    return (exponents.to(tl.int32) << 23).to(tl.float32, bitcast=True)


@triton.jit
def in_base_2(exponents):
    """e^x = 2^(x / ln 2); the hardware computes powers of 2."""
    return exponents * 1.4426950408889634


@triton.jit
def attend_split(
    q, positions, is_row, slopes, key_base, value_base, key_exponent_base, value_exponent_base,
    table, start, stop, first_visible, stride_block, stride_token, scale, softcap,
    BLOCK_SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_V: tl.constexpr,
    NUM_SCALES: tl.constexpr,
    WINDOW: tl.constexpr, CHUNK: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr, HAS_SCALES: tl.constexpr,
):  # fmt: skip
    """Queries q [M, D] over the keys at positions [start, stop): maximum [M], total [M], mixed
    [M, V]. With `HAS_SLOPES` scores fall by slopes [M] times the distance of a key, with
    `HAS_SCALES` each key and each value has a scale (`model/state/kv_fp8.py`)."""
    maximum = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    channels = tl.arange(0, BLOCK_D)
    value_channels = tl.arange(0, BLOCK_V)
    if WINDOW > 0 or CHUNK > 0:  # skip tiles that no query of this tile sees
        start += tl.maximum(first_visible - start, 0) // BLOCK_N * BLOCK_N
    for tile_start in range(start, stop, BLOCK_N):
        keys_at = tile_start + tl.arange(0, BLOCK_N)  # [N] positions
        is_key = keys_at < stop
        if WINDOW > 0:  # blocks before the windows of all may be others'
            is_key &= keys_at >= first_visible
        blocks = tl.load(table + keys_at // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
        slots = blocks * stride_block + keys_at % BLOCK_SIZE * stride_token  # [N]
        is_loaded = is_key[:, None] & (channels < HEAD_DIM)[None, :]
        where = slots[:, None] + channels[None, :]
        k = tl.load(key_base + where, mask=is_loaded, other=0.0).to(q.dtype)  # [N, D]
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [M, N]
        if HAS_SCALES:
            scales_at = (blocks * BLOCK_SIZE + keys_at % BLOCK_SIZE) * NUM_SCALES  # [N]
            key_exponent = tl.load(key_exponent_base + scales_at, mask=is_key, other=0)
            scores = scores * power_of_2(key_exponent)[None, :]
        if HAS_SOFTCAP:  # softcap * tanh(scores / softcap); tanh(x) = 2 sigmoid(2 x) - 1
            scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)
        if HAS_SLOPES:
            scores -= slopes[:, None] * (positions[:, None] - keys_at[None, :]).to(tl.float32)
        is_seen = (keys_at[None, :] <= positions[:, None]) & is_key[None, :] & is_row[:, None]
        if WINDOW > 0:
            is_seen &= keys_at[None, :] > positions[:, None] - WINDOW
        if CHUNK > 0:
            is_seen &= keys_at[None, :] >= positions[:, None] // CHUNK * CHUNK
        scores = tl.where(is_seen, in_base_2(scores), -float("inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        base = tl.where(new_maximum == -float("inf"), 0.0, new_maximum)
        weights = tl.exp2(scores - base[:, None])  # [M, N]
        rescale = tl.exp2(maximum - base)
        where = slots[:, None] + value_channels[None, :]
        is_loaded = is_key[:, None] & (value_channels < VALUE_DIM)[None, :]
        v = tl.load(value_base + where, mask=is_loaded, other=0.0).to(q.dtype)  # [N, V]
        total = total * rescale + tl.sum(weights, 1)
        mixed = mixed * rescale[:, None]
        if HAS_SCALES:
            value_exponent = tl.load(value_exponent_base + scales_at, mask=is_key, other=0)
            weights = weights * power_of_2(value_exponent)[None, :]
        mixed += tl.dot(weights.to(q.dtype), v, input_precision="ieee")
        maximum = new_maximum
    return maximum, total, mixed


@triton.jit
def add_sinks(maximum, total, mixed, sinks):
    """A score per row that takes its share of the softmax and gives no value."""
    nothing = tl.zeros_like(mixed)
    return merge(maximum, total, mixed, in_base_2(sinks), tl.zeros_like(total) + 1.0, nothing)


@triton.jit(do_not_specialize=BY_BATCH, do_not_specialize_on_alignment=["cos", "sin"])
def paged_attention_kernel(
    output, query, key_cache, value_cache, block_table, seq_lens, query_start_loc, sinks, slopes,
    split_maximum, split_total, split_mixed, key_exponents, value_exponents,
    first_sequence, stop_sequence, scale, softcap,
    stride_query_token, stride_query_head, stride_output_token, stride_output_head,
    stride_block, stride_token, stride_kv_head, stride_table, max_splits,
    cos, sin, slot_mapping, query_norm, key_norm, query_scale, eps, value_eps,
    GROUP: tl.constexpr, NUM_KV_HEADS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_V: tl.constexpr,
    NUM_SCALES: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    KEYS_PER_SPLIT: tl.constexpr, HAS_LANES: tl.constexpr, IS_DECODE: tl.constexpr,
    WINDOW: tl.constexpr, CHUNK: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
    HAS_SINKS: tl.constexpr, HAS_SLOPES: tl.constexpr, HAS_SCALES: tl.constexpr,
    KEEPS: tl.constexpr, HALF: tl.constexpr, HAS_NORM: tl.constexpr, NORM_IS_LAST: tl.constexpr,
    SCALES_QUERY: tl.constexpr, NORMS_VALUES: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, kv heads, lanes). `IS_DECODE`: each sequence has one query, and is one tile.
    `KEEPS`: `query` is all that is projected, as many heads of keys and of values behind those of
    queries, and what `rope_kv_kernel` does to them is done here; else cos and what is behind it is
    nothing."""
    begin(DEPENDENT)
    tile, kv_head, lane = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if IS_DECODE:
        sequence, tile_in_sequence, first_query, num_queries = tile, 0, tile, 1
    else:
        sequence, tile_in_sequence = find_tile(
            tile, query_start_loc, first_sequence, stop_sequence, BLOCK_Q
        )
        first_query = tl.load(query_start_loc + sequence)
        num_queries = tl.load(query_start_loc + sequence + 1) - first_query
    seq_len = tl.load(seq_lens + sequence)
    if tile_in_sequence * BLOCK_Q >= num_queries or seq_len == 0:
        return
    rows = tl.arange(0, BLOCK_M)
    queries = tile_in_sequence * BLOCK_Q + rows // GROUP  # [M] within the sequence
    heads = kv_head * GROUP + rows % GROUP  # [M]
    is_row = (rows < BLOCK_Q * GROUP) & (queries < num_queries)
    past = seq_len - num_queries
    positions = past + queries  # [M]
    channels = tl.arange(0, BLOCK_D)
    is_element = is_row[:, None] & (channels < HEAD_DIM)[None, :]
    value_channels = tl.arange(0, BLOCK_V)
    is_mixed = is_row[:, None] & (value_channels < VALUE_DIM)[None, :]
    tokens = (first_query + queries).to(tl.int64)  # [M] within the step
    query_at = tokens * stride_query_token + heads * stride_query_head
    if KEEPS:
        q = turn_heads(
            query + query_at, is_row, query_norm, cos + tile.to(tl.int64) * HALF,
            sin + tile.to(tl.int64) * HALF, eps, channels,
            HEAD_DIM, HALF, HAS_NORM, NORM_IS_LAST,
        )  # fmt: skip
        if SCALES_QUERY:
            factor = tl.load(query_scale + tile).to(tl.float32)
            q = q.to(query.dtype.element_ty).to(tl.float32) * factor
        q = q.to(query.dtype.element_ty)
    else:
        q = tl.load(query + query_at[:, None] + channels[None, :], mask=is_element, other=0.0)

    end = past + tl.minimum((tile_in_sequence + 1) * BLOCK_Q, num_queries)  # of what any row sees
    first_position = past + tile_in_sequence * BLOCK_Q
    first_visible = tl.maximum(first_position - WINDOW + 1, 0) if WINDOW > 0 else 0
    if CHUNK > 0:
        first_visible = tl.maximum(first_visible, first_position // CHUNK * CHUNK)
    num_splits = tl.cdiv(end, KEYS_PER_SPLIT)
    first_split = first_visible // KEYS_PER_SPLIT if WINDOW > 0 or CHUNK > 0 else 0
    table = block_table + sequence.to(tl.int64) * stride_table
    key_base = key_cache + kv_head * stride_kv_head
    value_base = value_cache + kv_head * stride_kv_head
    if KEEPS:  # noqa: SIM102  # the compiler leaves out what is behind a constant alone
        if (num_splits - 1 - first_split) % tl.num_programs(2) == lane:
            one, slot = tl.arange(0, 1), tl.load(slot_mapping + tile)
            new_key = query + tile.to(tl.int64) * stride_query_token
            new_key += (NUM_KV_HEADS * GROUP + kv_head) * stride_query_head
            key = turn_heads(
                new_key + one, one == 0, key_norm, cos + tile.to(tl.int64) * HALF,
                sin + tile.to(tl.int64) * HALF, eps, channels,
                HEAD_DIM, HALF, HAS_NORM, NORM_IS_LAST,
            )  # fmt: skip
            write_vector(
                key_cache, key_exponents, slot, kv_head,
                key.to(query.dtype.element_ty).to(tl.float32), channels, stride_token,
                NUM_KV_HEADS, HEAD_DIM, HAS_SCALES,
            )  # fmt: skip
            new_value = new_key + NUM_KV_HEADS * stride_query_head
            value = kept_value(new_value, channels, value_eps, HEAD_DIM, NORMS_VALUES)
            write_vector(
                value_cache, value_exponents, slot, kv_head, value, channels, stride_token,
                NUM_KV_HEADS, HEAD_DIM, HAS_SCALES,
            )  # fmt: skip
            tl.debug_barrier()  # all threads of the program see it, which read it with the others

    own_slopes = tl.zeros([BLOCK_M], tl.float32)
    if HAS_SLOPES:
        own_slopes = tl.load(slopes + heads, mask=is_row, other=0.0)
    maximum = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    for split in range(first_split + lane, num_splits, tl.num_programs(2)):
        start = split * KEYS_PER_SPLIT
        own_maximum, own_total, own_mixed = attend_split(
            q, positions, is_row, own_slopes, key_base, value_base,
            key_exponents + kv_head % NUM_SCALES if HAS_SCALES else 0,
            value_exponents + kv_head % NUM_SCALES if HAS_SCALES else 0,
            table, start, tl.minimum(start + KEYS_PER_SPLIT, end), first_visible,
            stride_block, stride_token, scale, softcap,
            BLOCK_SIZE, BLOCK_M, BLOCK_N, HEAD_DIM, BLOCK_D, VALUE_DIM, BLOCK_V, NUM_SCALES,
            WINDOW, CHUNK, HAS_SOFTCAP, HAS_SLOPES, HAS_SCALES,
        )  # fmt: skip
        if not HAS_LANES:
            maximum, total, mixed = merge(
                maximum, total, mixed, own_maximum, own_total, own_mixed
            )  # fmt: skip
        else:
            share = (tokens * NUM_KV_HEADS * GROUP + heads) * max_splits + split  # [M]
            tl.store(split_maximum + share, own_maximum, mask=is_row)
            tl.store(split_total + share, own_total, mask=is_row)
            into = share[:, None] * VALUE_DIM + value_channels[None, :]
            tl.store(split_mixed + into, own_mixed, mask=is_mixed)
    if not HAS_LANES:
        if HAS_SINKS:
            sink = tl.load(sinks + heads, mask=is_row, other=0.0).to(tl.float32)
            maximum, total, mixed = add_sinks(maximum, total, mixed, sink)
        mixed = mixed / tl.where(is_row, total, 1.0)[:, None]
        into = tokens * stride_output_token + heads * stride_output_head
        tl.store(output + into[:, None] + value_channels[None, :], mixed, mask=is_mixed)


@triton.jit(do_not_specialize=BY_BATCH)
def merge_splits_kernel(
    output, split_maximum, split_total, split_mixed, seq_lens, sinks,
    stride_output_token, stride_output_head, max_splits,
    NUM_HEADS: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_V: tl.constexpr,
    KEYS_PER_SPLIT: tl.constexpr, WINDOW: tl.constexpr, CHUNK: tl.constexpr,
    HAS_SINKS: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    """Grid (sequences, heads), one query each: its splits, merged from the first to the last."""
    begin(DEPENDENT)
    sequence, head = tl.program_id(0), tl.program_id(1)
    seq_len = tl.load(seq_lens + sequence)
    if seq_len == 0:
        return
    channels = tl.arange(0, BLOCK_V)
    is_channel = channels < VALUE_DIM
    one = tl.arange(0, 1)
    maximum = tl.full([1], -float("inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    mixed = tl.zeros([1, BLOCK_V], tl.float32)
    first_visible = tl.maximum(seq_len - WINDOW, 0) if WINDOW > 0 else 0
    if CHUNK > 0:
        first_visible = tl.maximum(first_visible, (seq_len - 1) // CHUNK * CHUNK)
    first_split = first_visible // KEYS_PER_SPLIT
    for split in range(first_split, tl.cdiv(seq_len, KEYS_PER_SPLIT)):
        share = (sequence.to(tl.int64) * NUM_HEADS + head) * max_splits + split + one  # [1]
        own = tl.load(
            split_mixed + share[:, None] * VALUE_DIM + channels[None, :],
            mask=is_channel[None, :],
            other=0.0,
        )
        maximum, total, mixed = merge(
            maximum, total, mixed,
            tl.load(split_maximum + share), tl.load(split_total + share), own,
        )  # fmt: skip
    if HAS_SINKS:
        sink = tl.load(sinks + head + one).to(tl.float32)
        maximum, total, mixed = add_sinks(maximum, total, mixed, sink)
    mixed = mixed / total[:, None]
    into = sequence.to(tl.int64) * stride_output_token + head * stride_output_head
    tl.store(output + into + channels[None, :], mixed, mask=is_channel[None, :])
