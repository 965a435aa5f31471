"""Filling a model layer by layer gives the model that filling it in two passes gives."""

import pytest
import torch

from tests.model.steps import Row, make_batch
from tests.model.tiny import CPU, GPT2, LLAMA, change
from tests.weights.dummy import dummy_tensor, load_dummy_weights
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.config import ModelConfig
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer


def empty(config: ModelConfig, quantize: str = "none") -> Transformer:
    backend = BlockedAttention()
    return Transformer(config, backend, dtype=torch.float32, device=CPU, quantize=quantize)


def logits(model: Transformer) -> torch.Tensor:
    kv_cache = KVCache(model.config, 2, 16, torch.float32, CPU)
    return model(make_batch([Row(range(5), 0, [1])], 16, "all"), kv_cache)


@pytest.mark.parametrize("config", [LLAMA, GPT2, change(LLAMA, tie_word_embeddings=True)])
def test_equals_two_passes(config: ModelConfig) -> None:
    """Bit for bit, with a head of its own and with a tied one, with biases and without."""
    one, two = empty(config), empty(config)
    loader = ModelLoader(one)
    load_dummy_weights(config, 3, loader)
    loader.finish()
    load_dummy_weights(config, 3, two)
    two.finish()
    assert torch.equal(logits(one), logits(two))


def test_a_layer_is_finished_with_its_last_tensor() -> None:
    """Not at the end: then the weights of all layers would be in memory in full precision."""
    model = empty(LLAMA)
    loader = ModelLoader(model)
    qkv = model.blocks[0].attention.qkv
    name = "blocks.0.attention.qkv.weight"
    for part in "qk":
        loader.load(name, part, dummy_tensor(LLAMA, 0, name, part))
        assert not qkv.weight.is_mkldnn
    loader.load(name, "v", dummy_tensor(LLAMA, 0, name, "v"))
    assert qkv.weight.is_mkldnn


def test_a_merged_parameter_that_comes_whole_is_complete() -> None:
    """GPT-2's checkpoints merge query, key and value; the layer's bias is awaited too."""
    model = empty(GPT2)
    loader = ModelLoader(model)
    qkv = model.blocks[0].attention.qkv
    loader.load("blocks.0.attention.qkv.weight", None, torch.ones(96, 32))
    assert not qkv.weight.is_mkldnn
    loader.load("blocks.0.attention.qkv.bias", None, torch.ones(96))
    assert qkv.weight.is_mkldnn


def test_a_hole_is_our_own_bug() -> None:
    loader = ModelLoader(empty(LLAMA))
    with pytest.raises(AssertionError, match="has not come"):
        loader.finish()
