"""The KV cache in 8-bit floats: what is written, what attention makes of it, what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.draws import draws
from tests.model.attention.test_attention import Case, cache_of, scattered_batch
from tests.model.attention.test_triton_attention import FEW, MANY
from tests.model.fused_twins import scattered
from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, change, make_cache, random_model
from tests.recipes import make_recipe
from thirdeye.model.attention.reference import ReferenceAttention
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.kernels import rope_kv
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.parts.rope import Rope
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import choose_kv_dtype, make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.model.state.kv_fp8 import Fp8KVCache, ScaledCache, power_of_2, round_vectors
from thirdeye.server.load.placement import place_kv

pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

CUDA = torch.device("cuda")


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 20, 64]))
@draws(10, 40, database=None)
def test_rounding(seed: int, width: int) -> None:
    """3 bits of fraction, whatever the vector's size; far smaller channels lose more."""
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(4, 3, width, generator=g)
    vectors *= 10.0 ** torch.randint(-4, 4, (4, 3, 1), generator=g)
    numbers, exponents = round_vectors(vectors)
    assert numbers.dtype == FP8
    error = (numbers.float() * power_of_2(exponents)[..., None] - vectors).abs()
    top = vectors.abs().amax(-1, keepdim=True)
    assert (error <= vectors.abs() * 2.0**-4 + top * 2.0**-17).all()


def test_zeros_and_broken_vectors() -> None:
    """Zeros come back as zeros, a NaN or an infinity breaks its own vector alone."""
    vectors = torch.ones(4, 2, 8)
    vectors[0] = 0
    vectors[1, 0, 3] = math.nan
    vectors[2, 1, 5] = math.inf
    numbers, exponents = round_vectors(vectors)
    decoded = numbers.float() * power_of_2(exponents)[..., None]
    assert not decoded[0].any()
    assert not decoded[1, 0].isfinite().any()
    assert not decoded[2, 1].isfinite().any()
    assert torch.equal(decoded[[1, 2, 3, 3], [1, 0, 0, 1]], torch.ones(4, 8))


def test_write_lands_in_its_slots() -> None:
    """Numbers and scales, in one layer; other slots stay zero."""
    cache = Fp8KVCache(LLAMA, 6, 4, CPU)
    key, value = torch.randn(3, 2, 8), torch.randn(3, 2, 8)
    cache.write(1, key, value, torch.tensor([4 * 4 + 3, 0, 4 * 2 + 1]))
    for side, new in zip(cache.layer(1), (key, value), strict=True):
        blocks = side[torch.arange(6)]  # [6, 4, 2, 8]
        for i, (block, offset) in enumerate([(4, 3), (0, 0), (2, 1)]):
            torch.testing.assert_close(blocks[block, offset], new[i], atol=0.02, rtol=2.0**-4)
        assert side.exponents.ne(0).any(2).sum() == 3
        assert blocks.ne(0).any(3).any(2).sum() == 3
    assert not cache.layer(0)[0][torch.arange(6)].any()


def test_bytes_per_block_is_what_is_allocated() -> None:
    """A byte a channel and one a vector: half of bf16 and 0.4 % with 128 channels."""
    for config in (LLAMA, GPT2):
        cache = make_kv_cache(config, 5, 16, FP8, CPU)
        assert isinstance(cache, Fp8KVCache)
        exponents = cache.key_exponents + cache.value_exponents
        tensors = (*cache.keys, *cache.values, *exponents)
        assert kv_bytes_per_block(config, 16, FP8) * 5 == sum(t.nbytes for t in tensors)
    wide = change(LLAMA, head_dim=128)
    ratio = kv_bytes_per_block(wide, 16, FP8) / kv_bytes_per_block(wide, 16, torch.bfloat16)
    assert ratio == 129 / 256
    assert type(make_kv_cache(LLAMA, 5, 16, torch.float32, CPU)) is KVCache


def scaled(shape: tuple[int, ...], g: torch.Generator) -> ScaledCache:
    vectors = (
        torch.randn(shape, generator=g)
        * 10.0 ** torch.randint(-2, 3, shape[:-1], generator=g)[..., None]
    )
    return ScaledCache(*round_vectors(vectors))


def compare(case: Case, num_multiprocessors: int, **kind: float) -> None:
    """The kernel, and the textbook over the same cache dequantized."""
    g = torch.Generator().manual_seed(case.seed)
    batch, num_blocks = scattered_batch(case, g)
    shape = (num_blocks, case.block_size, case.num_kv_heads, case.head_dim)
    keys, values = scaled(shape, g), scaled(shape, g)
    query = torch.randn(len(batch.positions), case.num_heads, case.head_dim, generator=g)
    query *= 0.05  # scores of tens, as models have them: fp32 loses a thousandth of a thousand
    plan = ReferenceAttention().plan(batch, cache_of(keys.numbers, values.numbers))
    expected = ReferenceAttention().forward(query, keys, values, plan)
    backend = TritonAttention(num_multiprocessors=num_multiprocessors)
    own = backend.plan(batch, cache_of(keys.numbers, values.numbers))
    output = backend.forward(query, keys, values, own)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_multiprocessors", [FEW, MANY])
def test_attention_while_decoding(num_multiprocessors: int) -> None:
    """One lane and several, around the edges of tiles and splits."""
    compare(Case([(n - 1, 1) for n in (1, 63, 65, 257, 600)], 16, 4, 2, 8), num_multiprocessors)


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(4, 4, 20), (6, 2, 64)])
def test_attention_of_chunks(
    num_heads: int, num_kv_heads: int, head_dim: int, block_size: int
) -> None:
    lengths = [(0, 7), (20, 1), (33, 40)]
    compare(Case(lengths, block_size, num_heads, num_kv_heads, head_dim), FEW)


def decoded(cache: Fp8KVCache) -> Tensor:
    return torch.stack([side[torch.arange(8)] for side in cache.layer(0)])


@pytest.mark.parametrize("head_dim", [8, 20])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, of what is no number
def test_kernel_writes_what_its_twin_writes(head_dim: int) -> None:
    """But where rounding up reaches a power of 2: triton's interpreter loses that carry."""
    config = change(LLAMA, head_dim=head_dim)
    where = Placement(torch.float32, CPU)
    batch = scattered(where)
    assert config.rope is not None
    rotate = Rope(config.rope, 64, where).at(batch.positions)
    qkv = torch.randn(len(batch.positions), 8 * head_dim)
    ours, twin = Fp8KVCache(config, 8, 4, CPU), Fp8KVCache(config, 8, 4, CPU)
    rope_kv.rope_and_write(qkv, rotate.cos, rotate.sin, batch.slot_mapping, *ours.layer(0))
    heads = qkv.view(len(qkv), 8, head_dim)
    key = rotate(heads[:, 4:6])
    twin.write(0, key, heads[:, 6:], batch.slot_mapping)
    for mine, its in zip(ours.layer(0), twin.layer(0), strict=True):
        assert torch.equal(mine.exponents, its.exponents)
    a, b = decoded(ours), decoded(twin)
    may_be_lost = b.abs().div(a.abs().clamp_min(1e-9)).sub(2).abs() < 0.01  # half of what it was
    assert may_be_lost.float().mean() < 0.1
    torch.testing.assert_close(a[~may_be_lost], b[~may_be_lost], atol=1e-3, rtol=2.0**-3)
    for broken in (math.nan, math.inf):
        qkv[0, 5 * head_dim] = qkv[0, 7 * head_dim] = broken
        rope_kv.rope_and_write(qkv, rotate.cos, rotate.sin, batch.slot_mapping, *ours.layer(0))
        is_sound = decoded(ours).isfinite()
        assert (~is_sound).any(-1).sum() == 2  # that key, that value
        assert torch.equal((~is_sound).any(-1), (~is_sound).all(-1))


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_whole_models_say_nearly_the_same(config: ModelConfig) -> None:
    """The mean of KL(exact | 8 bits) over a text's tokens, in nats; prompt, chunk and decoding."""
    model = random_model(config, TritonAttention(num_multiprocessors=8))
    tokens = [(7 * i * i + 3 * i) % 53 for i in range(30)]
    blocks = list(range(8))
    steps = [
        Row(tokens[:20], 0, blocks),
        Row(tokens[20:25], 20, blocks),
        *(Row([tokens[i]], i, blocks) for i in range(25, 30)),
    ]

    def logprobs(cache: KVCache) -> Tensor:
        logits = [model(make_batch([row], 4, "all"), cache) for row in steps]
        return torch.cat(logits).log_softmax(-1)

    exact, rounded = logprobs(make_cache(config)), logprobs(Fp8KVCache(config, 16, 4, CPU))
    rise = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert 0 < rise < 0.01


def test_who_may_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is the model's dtype; what is missing for fp8 is named."""
    assert choose_kv_dtype("auto", "auto", torch.bfloat16, CUDA) == torch.bfloat16
    with pytest.raises(ValueError, match="'--kv-dtype' fp8 needs a GPU and the package triton"):
        choose_kv_dtype("fp8", "auto", torch.float32, CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert choose_kv_dtype("fp8", "triton", torch.bfloat16, CUDA) == FP8
    with pytest.raises(ValueError, match="read by '--attention' triton alone, got 'sdpa'"):
        choose_kv_dtype("fp8", "sdpa", torch.bfloat16, CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(ValueError, match=r"needs compute capability 8.9, this GPU has 8.0"):
        choose_kv_dtype("fp8", "auto", torch.bfloat16, CUDA)


def test_the_flag_reaches_the_engine() -> None:
    """From the setting over the recipe to the choice, which refuses a CPU."""
    recipe = make_recipe(kv_dtype="fp8")
    with pytest.raises(ValueError, match="'--kv-dtype' fp8 needs a GPU"):
        place_kv(recipe, Placement(torch.float32, CPU))
