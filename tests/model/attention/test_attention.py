"""Every backend against the textbook, over ragged batches in scattered blocks."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.model.steps import Row, make_batch
from tests.model.tiny import LLAMA, change, make_cache
from thirdeye.model.attention import choose_attention as choose
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.reference import (
    ReferenceAttention,
    attention_weights,
    causal_mask,
    read_tokens,
)
from thirdeye.model.attention.sdpa import SdpaAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """Lengths are (past, new) of each sequence."""

    lengths: list[tuple[int, int]]
    block_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    seed: int = 0


def scattered_batch(case: Case, generator: torch.Generator) -> tuple[ForwardBatch, int]:
    """A batch whose blocks are shuffled over a pool, and the size of that pool."""
    needs = [-(-(past + new) // case.block_size) for past, new in case.lengths]
    num_blocks = sum(needs) + 3
    free = torch.randperm(num_blocks, generator=generator).tolist()
    rows = [
        Row([0] * new, past, [free.pop() for _ in range(need)])
        for (past, new), need in zip(case.lengths, needs, strict=True)
    ]
    return make_batch(rows, case.block_size), num_blocks


def poisoned_cache(case: Case, batch: ForwardBatch, num_blocks: int, g: torch.Generator) -> Tensor:
    """Random where a sequence has tokens, NaN everywhere else, the rest of its last block too."""
    shape = (num_blocks, case.block_size, case.num_kv_heads, case.head_dim)
    cache = torch.full(shape, torch.nan)
    for i, seq_len in enumerate(batch.seq_lens.tolist()):
        positions = torch.arange(seq_len)
        blocks = batch.block_table[i, positions // case.block_size].long()
        tokens = torch.randn(seq_len, *shape[2:], generator=g)
        cache[blocks, positions % case.block_size] = tokens
    return cache


def cache_of(keys: Tensor, values: Tensor) -> KVCache:
    """A cache of one layer: [num_blocks, block_size, num_kv_heads, head_dim] each."""
    num_blocks, block_size, num_kv_heads, head_dim = keys.shape
    config = change(
        LLAMA,
        num_hidden_layers=1,
        num_heads=num_kv_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
    )
    cache = make_cache(config, num_blocks, block_size)
    cache.keys, cache.values = (keys,), (values,)
    return cache


def compare(case: Case) -> None:
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    keys, values = (poisoned_cache(case, batch, num_blocks, g) for _ in range(2))
    # Queries as the model has them: a view into the merged projection, with strides of its own.
    merged = torch.randn(
        len(batch.positions), case.num_heads + 2 * case.num_kv_heads, case.head_dim, generator=g
    )
    query = merged[:, : case.num_heads]
    outputs = []
    for backend in (ReferenceAttention(), SdpaAttention(), BlockedAttention()):
        output = backend.forward(query, keys, values, backend.plan(batch, cache_of(keys, values)))
        assert output.shape == query.shape
        assert output.isfinite().all()
        outputs.append(output)
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=1e-5)


def ragged(block_size: int) -> list[tuple[int, int]]:
    """New tokens of 1, 2, block - 1, block, block + 1, each without and with full blocks before."""
    news = sorted({1, 2, max(1, block_size - 1), block_size, block_size + 1})
    return [(past, new) for new in news for past in (0, 1, block_size, 3 * block_size, 21)]


@pytest.mark.parametrize("block_size", [1, 2, 4, 16])
@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (4, 2), (9, 3), (8, 1)])
def test_ragged_batch(block_size: int, num_heads: int, num_kv_heads: int) -> None:
    """Prompts, chunks after a prefix and single tokens in one batch, over GQA ratios."""
    compare(Case(ragged(block_size), block_size, num_heads, num_kv_heads, head_dim=16))


@pytest.mark.parametrize("head_dim", [1, 2, 8, 20, 64, 128])
def test_head_dims(head_dim: int) -> None:
    """Head sizes that no kernel was tuned for are right too."""
    compare(Case(ragged(4), 4, 4, 2, head_dim))


CASES = st.builds(
    Case,
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=6),
    block_size=st.sampled_from([1, 2, 3, 4, 16]),
    num_heads=st.just(6),
    num_kv_heads=st.sampled_from([1, 2, 3, 6]),
    head_dim=st.sampled_from([4, 8, 32]),
    seed=st.integers(0, 1000),
)


@given(CASES)
@draws(15, 60)
def test_any_batch(case: Case) -> None:
    """No mixture of lengths, blocks and heads makes backends disagree or read a foreign slot."""
    compare(case)


def test_long_chunk_after_long_past() -> None:
    """Past the fused kernel's own tile sizes (hundreds of rows and keys) masks are still right."""
    compare(Case([(700, 300), (0, 600), (1030, 1)], 16, 2, 1, 8))


def test_reference_by_hand() -> None:
    """Two tokens, one head: the numbers of softmax(q k / sqrt(d)) v, worked out on paper."""
    # Keys 0 and 4, so that the second query (1) scores 0 and 4 / sqrt(4) = 2 over head_dim 4.
    keys = torch.tensor([[0.0, 0, 0, 0], [4, 0, 0, 0]]).view(1, 2, 1, 4)
    values = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]).view(1, 2, 1, 4)
    query = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0]]).view(2, 1, 4)
    backend = ReferenceAttention()
    batch = make_batch([Row([0, 0], 0, [0])], block_size=2)
    output = backend.forward(
        query, keys, values, backend.plan(batch, cache_of(keys, values))
    ).squeeze(1)
    second = math.exp(2) / (1 + math.exp(2))
    expected = torch.tensor([[1.0, 0, 0, 0], [1 - second, second, 0, 0]])
    torch.testing.assert_close(output, expected)


def test_attention_weights_are_causal_rows_of_one() -> None:
    """No weight on the future; the past's weights add up to 1."""
    mask = causal_mask(3, 5, CPU)
    assert mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    weights = attention_weights(torch.randn(3, 8), torch.randn(5, 8), mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    assert (weights[~mask] == 0).all()


def test_read_tokens_follows_the_block_table() -> None:
    """Order comes from the table, not from where the blocks lie."""
    cache = torch.arange(12.0).view(6, 2, 1, 1)
    table = torch.tensor([4, 1, 0], dtype=torch.int32)
    assert read_tokens(cache, table, 3).flatten().tolist() == [8, 9, 2]


def test_choose_attention() -> None:
    """Each name gives its backend; "auto" gives the device's best."""
    assert isinstance(choose_attention("auto", CPU), BlockedAttention)
    assert isinstance(choose_attention("sdpa", CPU), SdpaAttention)
    assert isinstance(choose_attention("blocked", CPU), BlockedAttention)
    assert isinstance(choose_attention("reference", CPU), ReferenceAttention)


def test_choose_attention_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """There "auto" is the project's own kernel, and torch's where triton is missing."""
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for has_triton, best in ((True, TritonAttention), (False, SdpaAttention)):
        monkeypatch.setattr(choose, "can_fuse", lambda device, answer=has_triton: answer)
        assert isinstance(choose_attention("auto", torch.device("cuda")), best)


def test_native_attention_is_best_where_it_is(native: Library) -> None:
    """Compiled kernels are used, unless another backend is named."""
    assert isinstance(choose_attention("auto", CPU, native), NativeAttention)
    assert isinstance(choose_attention("blocked", CPU, native), BlockedAttention)


def test_native_attention_needs_its_kernels() -> None:
    """Asked for by name where nothing is compiled: refused, with the way out."""
    with pytest.raises(ValueError, match=r"native needs kernels .* use 'auto'"):
        choose_attention("native", CPU)


def test_unknown_attention_lists_the_known() -> None:
    """A typing error in a flag is answered with what could be meant."""
    with pytest.raises(ValueError, match=r"'triton', 'flashinfer', got 'flash'"):
        choose_attention("flash", CPU)
