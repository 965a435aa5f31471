"""Attention on a GPU: `model/kernels/paged_attention.py`, cut by the shape of the step.

All metadata stays on the device: `plan` reads shapes, never values, so a step waits for nothing and
a captured one can be replayed. The kernels are imported in the constructor: a machine without
triton has everything but this backend.
"""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import TEXTBOOK, AttentionSpec
from thirdeye.model.declare.head_layout import HeadLayout
from thirdeye.model.parts.head_norms import QKNorm
from thirdeye.model.parts.rope import Rotation
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_fp8 import ScaledCache, parts

KEYS_PER_SPLIT = 256
MIN_DOT_ROWS = 16  # the tensor cores' smallest tile
# The load of the block table takes a stage too: five give two tiles of keys and values at a time.
DECODE_STAGES, FEW_STAGES = 5, 3
AHEAD_BYTES = 256  # of a key: larger ones leave no memory to a second program
MAX_KEYS, TILE_BYTES = 64, 1 << 15  # of an inner step's keys: what a stage of shared memory holds
WIDE_HEAD = 256  # channels; larger heads' sums need the registers of more warps, for fewer rows


@dataclass(frozen=True, slots=True)
class TileSizes:
    """How the kernel is cut; see its docstring. More than one lane only for decoding."""

    tokens: int  # of one tile
    rows: int  # tokens x grouped heads, padded for the tensor cores
    keys: int  # of one inner step
    num_lanes: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class Span:
    """Sequences of a step that one launch computes: from `first` on, up to `stop`."""

    first: int
    stop: int
    is_decode: bool  # each has exactly one query


@dataclass(frozen=True, slots=True)
class Projected:
    """How queries, keys and values, as they are projected, become what attends and what is kept:
    see `rope_and_write`, which does it in a launch of its own."""

    rotate: Rotation
    norms: QKNorm | None = None
    value_eps: float | None = None


@dataclass(frozen=True, slots=True)
class TritonPlan:
    batch: ForwardBatch
    spans: tuple[Span, ...]


class TritonAttention:
    """Split-KV decoding and ragged chunks, for grouped heads, in any paged cache.

    With `is_deterministic` one cut serves all steps, so that a token's bits do not depend on how it
    came to be computed.
    """

    plan_key = None

    def __init__(
        self,
        spec: AttentionSpec = TEXTBOOK,
        *,
        num_multiprocessors: int,
        is_deterministic: bool = False,
    ) -> None:
        self._kernels, self._launch_options = _import_kernels()
        self._spec = spec
        self._num_multiprocessors = num_multiprocessors
        self._is_deterministic = is_deterministic

    def for_layers(self, spec: AttentionSpec) -> "TritonAttention":
        return TritonAttention(
            spec,
            num_multiprocessors=self._num_multiprocessors,
            is_deterministic=self._is_deterministic,
        )

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> TritonPlan:  # noqa: ARG002
        """Sequences with one query are computed apart from a chunk: its tile would be a waste of
        them, and one program would go through all their keys."""
        num_tokens, num_sequences = len(batch.positions), len(batch.seq_lens)
        singles = num_sequences if num_tokens == num_sequences else batch.num_singles
        spans = (Span(0, singles, True), Span(singles, num_sequences, False))
        return TritonPlan(batch, tuple(span for span in spans if span.first < span.stop))

    def forward(
        self,
        query: Tensor,
        key_cache: Tensor | ScaledCache,
        value_cache: Tensor | ScaledCache,
        plan: TritonPlan,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        """As the protocol says. A sequence of length 0 is padding: its row is left undefined."""
        shape = (*query.shape[:2], value_cache.shape[3])
        output = torch.empty(shape, dtype=query.dtype, device=query.device)
        for span in plan.spans:
            self._attend(output, query, key_cache, value_cache, plan.batch, span, sinks, slopes)
        return output

    def keeps(self, plan: TritonPlan, layout: HeadLayout, num_kv_heads: int) -> bool:
        """Whether `forward_projected` is for this step: no token has another of its own step to
        look at, whose key some other program writes. Where bits shall not depend on how a token
        came to be computed, every step is kept in one way."""
        is_usual = layout.has_values and layout.keeps_values and layout.num_kv_heads == num_kv_heads
        is_alone = all(span.is_decode for span in plan.spans)
        return is_usual and is_alone and not (self._is_deterministic or self._spec.latent)

    def forward_projected(
        self,
        qkv: Tensor,
        key_cache: Tensor | ScaledCache,
        value_cache: Tensor | ScaledCache,
        plan: TritonPlan,
        projected: Projected,
        sinks: Tensor | None = None,
        slopes: Tensor | None = None,
    ) -> Tensor:
        """The same of qkv [T, all heads, head_dim], where `keeps` says so: keys and values of the
        step's tokens are put into their slots."""
        assert parts(key_cache)[0].is_contiguous()
        assert parts(value_cache)[0].is_contiguous()
        num_heads = qkv.shape[1] - 2 * key_cache.shape[2]
        shape = (len(qkv), num_heads, value_cache.shape[3])
        output = torch.empty(shape, dtype=qkv.dtype, device=qkv.device)
        for span in plan.spans:
            self._attend(
                output, qkv, key_cache, value_cache, plan.batch, span, sinks, slopes, projected
            )
        return output

    def _attend(
        self,
        output: Tensor,
        query: Tensor,
        key_cache: Tensor | ScaledCache,
        value_cache: Tensor | ScaledCache,
        batch: ForwardBatch,
        span: Span,
        sinks: Tensor | None,
        slopes: Tensor | None,
        projected: Projected | None = None,
    ) -> None:
        """One span's rows of `output` [T, num_heads, size of a value]."""
        num_tokens, num_heads = output.shape[:2]
        head_dim = query.shape[2]
        block_size, num_kept = key_cache.shape[1:3]
        value_dim = output.shape[2]
        (keys, key_exponents), (values, value_exponents) = parts(key_cache), parts(value_cache)
        spec, softcap = self._spec, self._spec.softcap or 0.0
        num_spanned, max_blocks = span.stop - span.first, batch.block_table.shape[1]
        group = _largest_group(num_heads // num_kept) if spec.latent else num_heads // num_kept
        num_kv_heads = num_heads // group
        max_splits = math.ceil(max_blocks * block_size / KEYS_PER_SPLIT)
        num_programs, item = num_spanned * num_kv_heads, keys.element_size()
        sizes = self._sizes(span, group, num_programs, max_splits, head_dim, item)
        num_rows = num_spanned if span.is_decode else num_tokens
        shares = self._shares(output, num_rows, sizes, max_splits)
        cut = {
            "VALUE_DIM": value_dim,
            "BLOCK_V": max(MIN_DOT_ROWS, _power_of_two(value_dim)),
            "KEYS_PER_SPLIT": KEYS_PER_SPLIT,
            "WINDOW": spec.window or 0,
            "CHUNK": spec.chunk or 0,
            "HAS_SINKS": sinks is not None,
            **self._launch_options(query.device),
        }
        num_tiles = num_spanned
        if not span.is_decode:  # see `find_tile`
            num_tiles += num_tokens // sizes.tokens - span.first // sizes.tokens
        self._kernels.paged_attention_kernel[num_tiles, num_kv_heads, sizes.num_lanes](
            output, query, keys, values,
            batch.block_table, batch.seq_lens, batch.query_start_loc, sinks, slopes, *shares,
            key_exponents, value_exponents, span.first, span.stop,
            1 / spec.divisor(head_dim), softcap,
            *query.stride()[:2], *output.stride()[:2],
            *keys.stride()[:2], keys.stride(2) if num_kv_heads == num_kept else 0,
            batch.block_table.stride(0), max_splits, *_turning(projected, batch),
            HEAD_DIM=head_dim,
            BLOCK_D=max(MIN_DOT_ROWS, _power_of_two(head_dim)), NUM_SCALES=num_kept,
            GROUP=group, NUM_KV_HEADS=num_kv_heads, BLOCK_SIZE=block_size,
            BLOCK_Q=sizes.tokens, BLOCK_M=sizes.rows, BLOCK_N=sizes.keys,
            HAS_LANES=sizes.num_lanes > 1, IS_DECODE=span.is_decode, HAS_SOFTCAP=softcap > 0,
            HAS_SLOPES=slopes is not None, HAS_SCALES=key_exponents is not None,
            num_warps=sizes.num_warps, num_stages=sizes.num_stages, **_forms(projected), **cut,
        )  # fmt: skip
        if sizes.num_lanes > 1:
            self._kernels.merge_splits_kernel[num_spanned, num_heads](
                output, *shares, batch.seq_lens, sinks,
                *output.stride()[:2], max_splits, NUM_HEADS=num_heads, num_warps=2, **cut,
            )  # fmt: skip

    def _sizes(
        self, span: Span, group: int, num_programs: int, max_splits: int, head_dim: int, item: int
    ) -> TileSizes:
        """More lanes where there are few programs: the lengths they depend on stay unread. `item`:
        bytes of a number of the cache."""
        key_bytes = _power_of_two(head_dim) * item
        rows = max(MIN_DOT_ROWS, _power_of_two(group))
        keys = max(MIN_DOT_ROWS, min(MAX_KEYS, TILE_BYTES // key_bytes))
        is_wide = head_dim > WIDE_HEAD
        num_warps = 8 if is_wide else 4
        if not span.is_decode and not self._is_deterministic:
            rows = max(rows, 32 if is_wide else 64)
            return TileSizes(max(1, rows // group), rows, keys, 1, num_warps, num_stages=2)
        lanes = math.ceil(2 * self._num_multiprocessors / num_programs) if span.is_decode else 1
        tokens = 1 if span.is_decode else max(1, rows // group)
        stages = DECODE_STAGES if key_bytes <= AHEAD_BYTES else FEW_STAGES
        return TileSizes(tokens, rows, keys, min(lanes, max_splits), num_warps, stages)

    def most_shared_bytes(
        self, num_heads: int, num_kv_heads: int, head_dim: int, max_num_seqs: int, max_keys: int
    ) -> int:
        """What lanes leave in memory in one step of decoding, at the most, whoever decodes."""
        most_rows = min(max_num_seqs, (2 * self._num_multiprocessors - 1) // num_kv_heads)
        max_splits = math.ceil(max_keys / KEYS_PER_SPLIT)
        if max_splits == 1:
            return 0
        return most_rows * num_heads * max_splits * (head_dim + 2) * torch.float32.itemsize

    def _shares(
        self, output: Tensor, num_rows: int, sizes: TileSizes, max_splits: int
    ) -> tuple[Tensor, ...]:
        """Where splits leave their maximum, total and mixed values, if lanes share a sequence."""
        num_shares = num_rows * output.shape[1] * max_splits if sizes.num_lanes > 1 else 0
        maximum, total, mixed = (
            torch.empty(num_shares * width, dtype=torch.float32, device=output.device)
            for width in (1, 1, output.shape[2])
        )
        return maximum, total, mixed


def _turning(projected: Projected | None, batch: ForwardBatch) -> tuple[Any, ...]:
    """cos, sin, slot_mapping, query_norm, key_norm, query_scale, eps, value_eps."""
    if projected is None:
        return *(None,) * 6, 0.0, 0.0
    rotate, norms = projected.rotate, projected.norms
    key_norm = norms and (norms.key_norm or norms.query_norm)
    weights = (norms and norms.query_norm.weight, key_norm and key_norm.weight)
    eps = norms.query_norm.eps if norms else 0.0
    return (
        *(rotate.cos, rotate.sin, batch.slot_mapping, *weights, rotate.query_scale),
        *(eps, projected.value_eps or 0.0),
    )


def _forms(projected: Projected | None) -> dict[str, Any]:
    """What the kernel is compiled for."""
    if projected is None:
        names = ("KEEPS", "HAS_NORM", "NORM_IS_LAST", "SCALES_QUERY", "NORMS_VALUES")
        return dict.fromkeys(names, False) | {"HALF": 0}
    rotate, norms = projected.rotate, projected.norms
    return {
        "KEEPS": True,
        "HALF": rotate.cos.shape[-1],
        "HAS_NORM": norms is not None,
        "NORM_IS_LAST": norms is not None and norms.is_last,
        "SCALES_QUERY": rotate.query_scale is not None,
        "NORMS_VALUES": projected.value_eps is not None,
    }


def _import_kernels() -> tuple[ModuleType | Any, Any]:
    """Raises ImportError where triton is missing."""
    from thirdeye.model.kernels import paged_attention  # noqa: PLC0415  # see the module's docstring
    from thirdeye.model.kernels.dependent_launch import launch_options  # noqa: PLC0415

    return paged_attention, launch_options


def _largest_group(num_heads: int) -> int:
    """Of heads that look at one key, as many as a program takes."""
    return next(n for n in range(min(MIN_DOT_ROWS, num_heads), 0, -1) if num_heads % n == 0)


def _power_of_two(number: int) -> int:
    """The least that is not smaller."""
    return 1 << (number - 1).bit_length()
