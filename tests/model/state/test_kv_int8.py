"""The KV cache in 8-bit integers: what is written, what attention makes of it, in any company."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.attention.test_attention import Case, cache_of, scattered_batch
from tests.model.fused_twins import scattered
from tests.model.native.test_taped import (
    BLOCK_SIZE,
    BLOCKS_EACH,
    MODELS,
    models,
    num_recorded,
    random_step,
)
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, change, make_cache, random_model
from tests.recipes import make_recipe
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.native.library import Library
from thirdeye.model.native.rope_kv import RopeKVKernel
from thirdeye.model.parts.rope import Rope
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import choose_kv_dtype, make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.state.kv_int8 import Int8KVCache, Int8Vectors, round_to_int8
from thirdeye.server.load.placement import place_kv

CUDA = torch.device("cuda")
STEPS = [(20, 0), (5, 20), *((1, i) for i in range(25, 30))]  # a prompt, a chunk, decoding


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 20, 64]))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_rounding(seed: int, width: int) -> None:
    """Off by half a step at most, of which the largest number has 127."""
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(4, 3, width, generator=g)
    vectors *= 10.0 ** torch.randint(-20, 20, (4, 3, 1), generator=g)
    numbers, scales = round_to_int8(vectors)
    assert numbers.dtype == torch.int8
    assert int(numbers.abs().amax()) == 127
    error = (numbers.double() * scales.double()[..., None] - vectors.double()).abs()
    step = vectors.double().abs().amax(-1, keepdim=True) / 127
    assert (error <= step * 0.5001).all()


def test_zeros_and_broken_vectors() -> None:
    """Zeros come back as zeros, a NaN or an infinity breaks its own vector alone."""
    vectors = torch.ones(5, 2, 8)
    vectors[0] = 0
    vectors[1, 0, 3] = math.nan
    vectors[2, 1, 5] = -math.inf
    vectors[4] = 1e-40
    cache = Int8Vectors(*round_to_int8(vectors[:, None]))
    decoded = cache[torch.arange(5)][:, 0]
    assert not decoded[0].any()
    assert not decoded[1, 0].isfinite().any()
    assert not decoded[2, 1].isfinite().any()
    assert not decoded[4].any(), "below what counts"
    torch.testing.assert_close(decoded[[1, 2, 3, 3], [1, 0, 0, 1]], torch.ones(4, 8))


def test_write_lands_in_its_slots() -> None:
    """Numbers and scales, in one layer; other slots stay zero."""
    cache = Int8KVCache(LLAMA, 6, 4, CPU)
    key, value = torch.randn(3, 2, 8), torch.randn(3, 2, 8)
    cache.write(1, key, value, torch.tensor([4 * 4 + 3, 0, 4 * 2 + 1]))
    for side, new in zip(cache.layer(1), (key, value), strict=True):
        blocks = side[torch.arange(6)]  # [6, 4, 2, 8]
        for i, (block, offset) in enumerate([(4, 3), (0, 0), (2, 1)]):
            torch.testing.assert_close(blocks[block, offset], new[i], atol=0.02, rtol=0)
        assert side.scales.ne(0).any(2).sum() == 3
        assert blocks.ne(0).any(3).any(2).sum() == 3
    assert not cache.layer(0)[0][torch.arange(6)].any()


def test_bytes_per_block_is_what_is_allocated() -> None:
    """A byte a channel and four a vector: 0.52 of fp16 with 128 channels, 0.53 with 64."""
    for config in (LLAMA, GPT2):
        cache = make_kv_cache(config, 5, 16, torch.int8, CPU)
        assert isinstance(cache, Int8KVCache)
        tensors = (*cache.keys, *cache.values, *cache.key_scales, *cache.value_scales)
        assert kv_bytes_per_block(config, 16, torch.int8) * 5 == sum(t.nbytes for t in tensors)
    wide = change(LLAMA, head_dim=128)
    ratio = kv_bytes_per_block(wide, 16, torch.int8) / kv_bytes_per_block(wide, 16, torch.float16)
    assert ratio == 132 / 256


def backends(native: Library) -> list[AttentionBackend]:
    return [BlockedAttention(), NativeAttention(native)]


def compare(native: Library, case: Case) -> None:
    """Fast attention against the textbook over the same bytes, those that nobody may read NaN."""
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    shape = (num_blocks, case.block_size, case.num_kv_heads, case.head_dim)
    caches = []
    for _ in range(2):
        size = 10.0 ** torch.randint(-2, 1, shape[:-1], generator=g)[..., None]
        vectors = Int8Vectors(*round_to_int8(torch.randn(shape, generator=g) * size))
        hidden = torch.ones(num_blocks * case.block_size, dtype=torch.bool)
        for i, length in enumerate(batch.seq_lens.tolist()):
            slots = batch.block_table[i, torch.arange(length) // case.block_size].long()
            hidden[slots * case.block_size + torch.arange(length) % case.block_size] = False
        vectors.scales.flatten(0, 1)[hidden] = math.nan
        caches.append(vectors)
    query = torch.randn(len(batch.input_ids), case.num_heads, case.head_dim, generator=g)
    reference = ReferenceAttention()
    expected = reference.forward(
        query, *caches, reference.plan(batch, cache_of(*(c.numbers for c in caches)))
    )
    assert expected.isfinite().all()
    for backend in backends(native):
        plan = backend.plan(batch, cache_of(*(c.numbers for c in caches)))
        output = backend.forward(query, *caches, plan)
        torch.testing.assert_close(output, expected, atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("head_dim", [7, 16, 20, 64, 80, 128])
def test_attention(native: Library, head_dim: int, threads: int) -> None:
    """Chunks and decoding around the edges of blocks of keys, any width of heads."""
    torch.set_num_threads(threads)
    lengths = [(0, 7), (20, 1), (33, 70), *((n - 1, 1) for n in (1, 63, 65, 130))]
    compare(native, Case(lengths, 16, 6, 2, head_dim))
    compare(native, Case([(300, 1)], 3, 8, 8, head_dim))


def test_many_rows_of_one_key_head(native: Library) -> None:
    compare(native, Case([(100, 3), (64, 1)], 16, 23, 1, 16))


@pytest.mark.parametrize("head_dim", [8, 20, 64])
def test_kernel_writes_what_its_twin_writes(native: Library, head_dim: int) -> None:
    """Byte for byte, also of zeros, of tiny numbers, of none; with heads not turned at all."""
    config = change(LLAMA, head_dim=head_dim)
    where = Placement(torch.float32, CPU)
    batch = scattered(where)
    assert config.rope is not None
    rotate = Rope(config.rope, 64, where).at(batch.positions)
    qkv = torch.randn(len(batch.positions), 8, head_dim, generator=torch.Generator().manual_seed(1))
    qkv[0, 4:] = 0
    qkv[1, 4:] = 1e-38
    qkv[2, 6, :3] = qkv[2, 6, 3:6] = 0.5
    qkv[3, 5, 2], qkv[3, 7, 1] = math.nan, math.inf
    ours, twin = Int8KVCache(config, 8, 4, CPU), Int8KVCache(config, 8, 4, CPU)
    RopeKVKernel(native).rope_and_write(
        qkv.flatten(1), rotate.cos, rotate.sin, batch.slot_mapping, *ours.layer(0)
    )
    twin.write(0, rotate(qkv[:, 4:6]), qkv[:, 6:], batch.slot_mapping)
    for mine, its in zip(ours.layer(0), twin.layer(0), strict=True):
        assert torch.equal(mine.numbers, its.numbers)
        assert torch.equal(mine.scales.nan_to_num(-1), its.scales.nan_to_num(-1))


def test_a_nan_stays_with_its_sequence(native: Library) -> None:
    """It is not hidden from its own, and no other sees it."""
    g = torch.Generator().manual_seed(3)
    caches = [Int8Vectors(*round_to_int8(torch.randn(9, 16, 2, 32, generator=g))) for _ in range(2)]
    rows = [Row([0], 40, [1, 2, 3]), Row([0] * 3, 50, [4, 5, 6, 7])]
    batch, query = make_batch(rows, 16), torch.randn(4, 6, 32, generator=g)
    for backend in backends(native):
        plan = backend.plan(batch, cache_of(*(c.numbers for c in caches)))
        sound = backend.forward(query, *caches, plan)
        kept = caches[0].scales.clone()
        caches[0].scales[5, 5, 0] = math.nan
        broken = backend.forward(query, *caches, plan)
        caches[0].scales.copy_(kept)
        assert torch.equal(broken[0], sound[0])
        assert broken[1:, :3].isnan().all()  # the heads that share key head 0
        assert torch.equal(broken[1:, 3:], sound[1:, 3:])


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("is_native", [False, True])
def test_whole_models_say_nearly_the_same(
    config: ModelConfig, is_native: bool, request: pytest.FixtureRequest
) -> None:
    """The mean of KL(exact | 8 bits) over a text's tokens, in nats; prompt, chunk and decoding, by
    kernels and without: these read what the textbook writes."""
    native: Library | None = request.getfixturevalue("native") if is_native else None
    backend: AttentionBackend = NativeAttention(native) if native else BlockedAttention()
    model = random_model(config, backend, native=native)
    tokens, blocks = [(7 * i * i + 3 * i) % 53 for i in range(30)], list(range(8))
    rows = [Row(tokens[at : at + count], at, blocks) for count, at in STEPS]

    def logprobs(cache: KVCache) -> Tensor:
        logits = [model(make_batch([row], 4, "all"), cache) for row in rows]
        return torch.cat(logits).log_softmax(-1)

    exact, rounded = logprobs(make_cache(config)), logprobs(Int8KVCache(config, 16, 4, CPU))
    rise = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert 0 < rise < 0.003


@pytest.mark.parametrize("is_native", [False, True])
def test_same_bits_in_any_company(is_native: bool, request: pytest.FixtureRequest) -> None:
    """A prompt whole, in chunks, beside another, token by token behind blocks that are there."""
    native: Library | None = request.getfixturevalue("native") if is_native else None
    backend: AttentionBackend = NativeAttention(native) if native else BlockedAttention()
    model = random_model(LLAMA, backend, native=native)
    tokens = [(7 * i * i + 3 * i) % 53 for i in range(30)]

    def logits(cuts: list[int], *, beside: bool) -> Tensor:
        cache, parts = Int8KVCache(LLAMA, 24, 4, CPU), []
        for start, stop in zip([0, *cuts], [*cuts, 30], strict=True):
            rows = [Row(tokens[start:stop], start, list(range(9, 17)))]
            rows += [Row(tokens[-3:], start, list(range(9)))] if beside else []
            parts.append(model(make_batch(rows, 4, "all"), cache)[: stop - start].clone())
        return torch.cat(parts)

    whole = logits([], beside=False)
    for cuts in ([7], [4, 8, 20], list(range(20, 30))):
        for beside in (False, True):
            assert torch.equal(logits(cuts, beside=beside), whole)


def test_who_may_have_it() -> None:
    fp32 = torch.float32
    for attention in ("auto", "native", "blocked", "reference"):
        assert choose_kv_dtype("int8", attention, fp32, CPU, "stored") == torch.int8
    assert choose_kv_dtype("auto", "auto", fp32, CPU, "stored") == torch.float16
    for attention in ("sdpa", "triton", "flashinfer"):
        with pytest.raises(ValueError, match=f"read by .*reference, got '{attention}': use 'auto'"):
            choose_kv_dtype("int8", attention, fp32, CPU)
    with pytest.raises(
        ValueError, match=r"int8 needs a CPU and '--dtype' float32, got cpu and .*16"
    ):
        choose_kv_dtype("int8", "auto", torch.bfloat16, CPU)
    with pytest.raises(ValueError, match=r"got cuda and .* on a GPU 'fp8'"):
        choose_kv_dtype("int8", "auto", torch.float32, CUDA)
    assert place_kv(make_recipe(kv_dtype="int8"), Placement(fp32, CPU)) == torch.int8


def test_on_tape(native: Library) -> None:
    """Steps from tape write the same bytes and scales, and read them alike."""
    config = MODELS["two-ropes"]
    ours, plain = models(native, config)
    our_cache, plain_cache = (
        Int8KVCache(config, 4 * BLOCKS_EACH, BLOCK_SIZE, CPU) for _ in range(2)
    )
    rng = random.Random(0)
    for _ in range(60):
        step = random_step(rng)
        assert torch.equal(ours(step, our_cache), plain(step, plain_cache))
    assert num_recorded(ours) > 3
    assert not ours.tape.reason
    for layer in range(config.num_hidden_layers):
        for mine, its in zip(our_cache.layer(layer), plain_cache.layer(layer), strict=True):
            assert torch.equal(mine.numbers, its.numbers)
            assert torch.equal(mine.scales, its.scales)
