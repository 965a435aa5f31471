"""The GPU's attention kernel in triton's interpreter, against the textbook."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.attention.test_attention import (
    Case,
    cache_of,
    poisoned_cache,
    ragged,
    scattered_batch,
)
from tests.model.steps import Row, make_batch
from thirdeye.model.attention.reference import ReferenceAttention, read_tokens
from thirdeye.model.attention.triton import KEYS_PER_SPLIT, TritonAttention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import AttentionSpec

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

FEW, MANY = 1, 64  # multiprocessors: one lane, and as many lanes as there are splits


def make(case: Case) -> tuple[ForwardBatch, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g) for _ in range(2))
    merged = torch.randn(
        len(batch.positions), case.num_heads + 2 * case.num_kv_heads, case.head_dim, generator=g
    )
    return batch, keys, values, merged[:, : case.num_heads]


def attend(backend: TritonAttention | ReferenceAttention, case: Case) -> Tensor:
    batch, keys, values, query = make(case)
    return backend.forward(query, keys, values, backend.plan(batch, cache_of(keys, values)))


def compare(case: Case, num_multiprocessors: int = FEW) -> None:
    """NaN wherever no sequence has a token: one read of a foreign slot would show."""
    expected = attend(ReferenceAttention(), case)
    output = attend(TritonAttention(num_multiprocessors=num_multiprocessors), case)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (9, 3), (8, 1)])
def test_ragged_batch(num_heads: int, num_kv_heads: int) -> None:
    """Prompts, chunks after a prefix and single tokens in one batch, over GQA ratios."""
    compare(Case(ragged(4)[::2], 4, num_heads, num_kv_heads, head_dim=16))


@pytest.mark.parametrize("head_dim", [2, 20, 64, 128])
def test_head_dims(head_dim: int) -> None:
    compare(Case([(5, 3), (0, 7), (20, 1)], 16, 4, 2, head_dim))


def test_large_heads() -> None:
    """Of more channels than 256: in tiles of fewer keys and rows, past the first of each."""
    compare(Case([(70, 40), (90, 1)], 16, 4, 2, 300))


@pytest.mark.parametrize("num_multiprocessors", [FEW, MANY])
def test_decode_past_a_split(num_multiprocessors: int) -> None:
    """Contexts around the edges of splits and of inner tiles, by one lane and by several."""
    edges = (1, 63, 64, 65, KEYS_PER_SPLIT - 1, KEYS_PER_SPLIT, KEYS_PER_SPLIT + 1, 700)
    compare(Case([(n - 1, 1) for n in edges], 16, 4, 2, 8), num_multiprocessors)


def test_chunk_past_a_split() -> None:
    compare(Case([(250, 60), (0, 70), (KEYS_PER_SPLIT, 3)], 16, 2, 1, 8))


MIXED_STEP = Case([(299, 1), (0, 1), (20, 1), (30, 70), (260, 1), (0, 3)], 16, 4, 2, 8)


@pytest.mark.parametrize("num_multiprocessors", [FEW, MANY])
def test_rows_of_one_token_beside_chunks(num_multiprocessors: int) -> None:
    """Those in front are computed as if they were alone, by several programs each; one behind a
    chunk goes with it."""
    compare(MIXED_STEP, num_multiprocessors)
    batch, keys, values, query = make(MIXED_STEP)
    assert batch.num_singles == 3
    backend = TritonAttention(num_multiprocessors=num_multiprocessors)
    grids = []
    attend = backend._kernels.paged_attention_kernel

    class Spy:
        def __getitem__(self, grid: tuple[int, ...]) -> object:
            grids.append(grid)
            return attend[grid]

    with patch.object(backend._kernels, "paged_attention_kernel", Spy()):
        backend.forward(query, keys, values, backend.plan(batch, cache_of(keys, values)))
    decode, chunk = grids
    lanes = 1 if num_multiprocessors == FEW else 2
    assert decode == (3, 2, lanes)
    assert chunk == (3 + 77 // 32, 2, 1)


CASES = st.builds(
    Case,
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=4),
    block_size=st.sampled_from([1, 3, 16]),
    num_heads=st.just(6),
    num_kv_heads=st.sampled_from([1, 2, 6]),
    head_dim=st.sampled_from([4, 32]),
    seed=st.integers(0, 1000),
)


@given(CASES)
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
def test_any_batch(case: Case) -> None:
    compare(case)


def test_lanes_do_not_change_bits() -> None:
    """Split at fixed positions and merged in order: how many work on a sequence is not seen."""
    case = Case([(n - 1, 1) for n in (5, 257, 600, 1030)], 16, 4, 2, 16)
    one, two, all_ = (attend(TritonAttention(num_multiprocessors=n), case) for n in (FEW, 8, MANY))
    assert torch.equal(one, two)
    assert torch.equal(one, all_)


def test_deterministic_bits_do_not_depend_on_the_chunk() -> None:
    """A token computed alone, in a chunk or with its whole prompt is the same, bit for bit."""
    backend = TritonAttention(num_multiprocessors=MANY, is_deterministic=True)
    length, block_size, g = 300, 16, torch.Generator().manual_seed(1)
    blocks = torch.randperm(20, generator=g).tolist()
    keys, values = (torch.randn(20, block_size, 2, 16, generator=g) for _ in range(2))
    query = torch.randn(length, 4, 16, generator=g)

    def run(past: int, new: int) -> Tensor:
        batch = make_batch([Row([0] * new, past, blocks)], block_size)
        plan = backend.plan(batch, cache_of(keys, values))
        return backend.forward(query[past : past + new], keys, values, plan)

    whole = run(0, length)
    assert torch.equal(run(290, 10), whole[290:])
    assert torch.equal(run(0, 7), whole[:7])
    for position in (0, 255, 256, 299):
        assert torch.equal(run(position, 1), whole[position : position + 1])


def expected_row(
    query: Tensor, keys: Tensor, values: Tensor, window: int, softcap: float, sinks: Tensor
) -> Tensor:
    """One query [H, D] at the last of L positions, keys [L, Hkv, D], in so many words."""
    group = len(query) // keys.shape[1]
    rows = []
    for head, q in enumerate(query):
        k, v = keys[-window:, head // group], values[-window:, head // group]
        scores = k @ q / math.sqrt(len(q))
        scores = softcap * torch.tanh(scores / softcap)
        weights = torch.cat([scores, sinks[head, None]]).softmax(0)[:-1]  # the sink has no value
        rows.append(weights @ v)
    return torch.stack(rows)


@pytest.mark.parametrize("num_multiprocessors", [FEW, MANY])
@pytest.mark.parametrize("new", [1, 40])
def test_window_softcap_and_sinks(new: int, num_multiprocessors: int) -> None:
    """What Mistral, Gemma 2 and gpt-oss add, all at once, for single tokens and for chunks."""
    case = Case([(n - new, new) for n in (40, 300, 600)], 16, 4, 2, 8)
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0])
    spec = AttentionSpec(window=270, softcap=1.5, sinks=True)
    backend = TritonAttention(spec, num_multiprocessors=num_multiprocessors)
    batch, keys, values, query = make(case)
    plan = backend.plan(batch, cache_of(keys, values))
    output = backend.forward(query, keys, values, plan, sinks)
    for i, (past, new_tokens) in enumerate(case.lengths):
        table = batch.block_table[i].long()
        start = int(batch.query_start_loc[i])
        for t in range(new_tokens):
            seen = (read_tokens(cache, table, past + t + 1) for cache in (keys, values))
            row = expected_row(query[start + t], *seen, 270, 1.5, sinks)
            torch.testing.assert_close(output[start + t], row, atol=1e-5, rtol=1e-5)


def test_padding_is_left_alone() -> None:
    """A replayed graph has rows without a sequence: length 0, nothing read, nothing spoilt."""
    batch, keys, values, query = make(Case([(4, 1), (2, 1)], 4, 4, 2, 8))
    batch.seq_lens[1] = 0
    batch.block_table[1] = 10**6
    for num_multiprocessors in (FEW, MANY):
        backend = TritonAttention(num_multiprocessors=num_multiprocessors)
        output = backend.forward(query, keys, values, backend.plan(batch, cache_of(keys, values)))
        assert output[0].isfinite().all()
