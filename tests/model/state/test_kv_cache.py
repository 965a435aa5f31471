"""The KV cache: where writes land, and how much memory it takes."""

import mmap
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.model.tiny import CPU, GPT2, LLAMA, change, make_cache
from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.linear.rounded import FP8
from thirdeye.model.memory_estimate import FileSizes, memory_estimates
from thirdeye.model.parameter_counts import num_in_head_matrices, parameter_counts
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import KVCache, kv_bytes_per_block
from thirdeye.server.bench.model_shapes import SMOLLM2_135M


def test_write_lands_in_its_slots() -> None:
    """Slot = block_id * block_size + offset, in one layer, keys and values apart."""
    cache = make_cache(LLAMA, num_blocks=6, block_size=4)
    key, value = torch.randn(3, 2, 8), torch.randn(3, 2, 8)
    cache.write(1, key, value, torch.tensor([4 * 4 + 3, 0, 4 * 2 + 1]))
    keys, values = cache.layer(1)
    for i, (block, offset) in enumerate([(4, 3), (0, 0), (2, 1)]):
        assert torch.equal(keys[block, offset], key[i])
        assert torch.equal(values[block, offset], value[i])
    assert keys.ne(0).any(dim=(2, 3)).sum() == 3
    assert not cache.keys[0].any()
    assert not cache.values[0].any()


def test_shapes() -> None:
    """What attention backends are promised."""
    cache = make_cache(LLAMA, num_blocks=6, block_size=4)
    assert len(cache.keys) == len(cache.values) == 2
    assert all(tensor.shape == (6, 4, 2, 8) for tensor in cache.layer(0))


def test_layers_differ_in_their_heads() -> None:
    """Each keeps what its own heads need, and no more."""
    wide = AttentionSpec(head_dim=24, num_kv_heads=1)
    config = change(LLAMA, attention=(AttentionSpec(), wide))
    cache = make_cache(config, num_blocks=6, block_size=4)
    assert [keys.shape for keys in cache.keys] == [(6, 4, 2, 8), (6, 4, 1, 24)]
    assert kv_bytes_per_block(config, 4, torch.float32) == 2 * 4 * (2 * 8 + 24) * 4
    assert kv_bytes_per_block(config, 4, torch.int8) == 2 * 4 * (2 * 8 + 24 + 3 * 4)


def test_a_layer_that_reads_anothers_keys_keeps_none() -> None:
    """The third and the fourth layer read what the first two keep: half the memory."""
    own, wide = AttentionSpec(), AttentionSpec(head_dim=24, num_kv_heads=1)
    specs = (own, wide, replace(wide, source=1), replace(own, source=0))
    config = change(LLAMA, num_hidden_layers=4, attention=specs)
    assert config.kv_shapes == ((2, 8), (1, 24))
    assert [config.index_of_its_kind(layer) for layer in range(4)] == [0, 1, 1, 0]
    assert len(make_cache(config).keys) == 2
    alone = change(config, attention=(own, wide, wide, own))
    halves = [kv_bytes_per_block(each, 16, torch.float16) for each in (config, alone)]
    assert 2 * halves[0] == halves[1]
    estimates = [memory_estimates(each)[0].kv_per_token for each in (config, alone)]
    assert 2 * estimates[0] == estimates[1]


def latents(num_layers: int) -> ModelConfig:
    """As DeepSeek keeps them."""
    spec = LatentSpec(size=512, rope_size=64, key_size=128, value_size=128)
    attention = AttentionSpec(LLAMA.rope, scale=0.1, has_values=False, latent=spec)
    return change(
        LLAMA,
        num_hidden_layers=num_layers,
        num_heads=16,
        num_kv_heads=1,
        head_dim=576,
        attention=(attention,) * num_layers,
    )


@pytest.mark.parametrize(("num_layers", "num_bytes"), [(27, 31_104), (61, 70_272)])
def test_a_latent_is_all_that_is_kept(num_layers: int, num_bytes: int) -> None:
    """Of a token of V2-Lite and of V3, in 16 bits: 576 numbers a layer, of which 512 are values."""
    config = latents(num_layers)
    cache = KVCache(config, 2, 16, torch.bfloat16, CPU)
    assert sum(keys.nbytes for keys in cache.keys) == 2 * 16 * num_bytes
    assert kv_bytes_per_block(config, 16, torch.bfloat16) == 16 * num_bytes
    assert kv_bytes_per_block(config, 16, torch.int8) == 16 * num_layers * (576 + 4)
    keys, values = cache.layer(3)
    assert (keys.shape, values.shape) == ((2, 16, 1, 576), (2, 16, 1, 512))
    assert values.data_ptr() == keys[..., 64:].data_ptr()
    assert memory_estimates(config)[0].kv_per_token == 2 * num_bytes  # in 32 bits


def test_head_matrices_are_counted_as_they_are_kept() -> None:
    """In 32 bits, whatever linear layers are in: of a file in blocks too."""
    config = latents(2)
    num_bytes = 2 * 16 * (128 + 128) * 512 * 4
    assert num_in_head_matrices(config) * 4 == num_bytes
    by_form = {each.quantize: each.weights for each in memory_estimates(config)[:2]}
    counts = parameter_counts(config)
    linear = counts.attention + counts.mlp - num_bytes // 4
    assert by_form["none"] - by_form["int8"] == linear * 3 + counts.head * 3 - config.vocab_size * (
        config.hidden_size if config.tie_word_embeddings else 0
    )
    file = FileSizes(table=100, others=1000, widened=300)
    stored = memory_estimates(config, file)[0].weights
    assert stored == 700 + num_bytes + config.vocab_size * config.hidden_size * 4 + (
        100 if config.tie_word_embeddings else 0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, FP8])
def test_a_value_is_written_with_its_key(dtype: torch.dtype) -> None:
    config = latents(2)
    cache = make_kv_cache(config, 2, 4, dtype, CPU)
    key = torch.randn(1, 1, 576, generator=torch.Generator().manual_seed(0))
    cache.write(1, key, key[..., 64:] * 9, torch.tensor([5]))
    keys, values = (side[torch.tensor([1])][0, 1] for side in cache.layer(1))
    assert torch.equal(keys[..., 64:].float(), values.float())
    torch.testing.assert_close(keys.float(), key[0], atol=0.15, rtol=0)
    assert not cache.keys[0].float().any()


@pytest.mark.parametrize(
    ("source", "problem"),
    [(1, "an earlier one"), (2, "an earlier one"), (0, "heads of another shape")],
)
def test_whose_keys_a_layer_may_read(source: int, problem: str) -> None:
    """Not its own, nor those of a layer that reads another's itself, nor of other heads."""
    specs = (AttentionSpec(), AttentionSpec(source=0), AttentionSpec(source=source, head_dim=24))
    with pytest.raises(ValueError, match=problem):
        change(LLAMA, num_hidden_layers=3, attention=specs)


def test_bytes_per_block_is_what_is_allocated() -> None:
    """The engine sizes the cache by this number: too small a one runs out of memory."""
    for config in (LLAMA, GPT2):
        for dtype in (torch.float32, torch.bfloat16):
            cache = KVCache(config, 5, 16, dtype, CPU)
            total = sum(tensor.nbytes for tensor in cache.keys + cache.values)
            assert kv_bytes_per_block(config, 16, dtype) * 5 == total


def test_an_empty_cache_takes_no_memory() -> None:
    """A gibibyte of cache is set aside at start and used by few: only what is written counts."""
    before = resident()
    cache = KVCache(SMOLLM2_135M, 2048, 16, torch.float32, CPU)
    size = sum(tensor.nbytes for tensor in cache.keys + cache.values)
    assert size > 1 << 30
    assert resident() - before < size // 10


def test_each_layers_pages_are_its_own() -> None:
    """They come from the system: an allocator's, of this size, may be what was freed before, and
    are then written whole to be zeros."""
    cache = KVCache(SMOLLM2_135M, 64, 16, torch.float32, CPU)
    assert all(layer.data_ptr() % mmap.PAGESIZE == 0 for layer in cache.keys + cache.values)


def resident() -> int:
    """Bytes of memory of this process; 0 where the system does not tell, as off Linux."""
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return 1024 * int(found.group(1)) if found else 0
