"""Tiny configs and models with random weights, the same for the same seed."""

import dataclasses
from typing import Any

import torch

from model.attention.base import AttentionBackend
from model.attention.blocked import BlockedAttention
from model.attention.native import NativeAttention
from model.config import Activation, ModelConfig, Norm, RopeConfig
from model.kv_cache import KVCache
from model.native.library import Library
from model.transformer import Transformer

CPU = torch.device("cpu")

LLAMA = ModelConfig(
    architecture="llama",
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    norm=Norm.RMS_NORM,
    norm_eps=1e-5,
    activation=Activation.SILU,
    gated_mlp=True,
    rope=RopeConfig(theta=10_000.0, dim=8),
    qkv_bias=False,
    attention_output_bias=False,
    mlp_bias=False,
    tie_word_embeddings=False,
)

GPT2 = dataclasses.replace(
    LLAMA,
    architecture="gpt2",
    intermediate_size=128,
    num_kv_heads=4,
    norm=Norm.LAYER_NORM,
    activation=Activation.GELU_TANH,
    gated_mlp=False,
    rope=None,
    qkv_bias=True,
    attention_output_bias=True,
    mlp_bias=True,
    tie_word_embeddings=True,
)


def change(config: ModelConfig, **changes: Any) -> ModelConfig:
    return dataclasses.replace(config, **changes)


def random_model(
    config: ModelConfig,
    attention: AttentionBackend | None = None,
    seed: int = 0,
    quantize: str = "none",
    is_fused: bool = False,
    native: Library | None = None,
) -> Transformer:
    """An fp32 model on the CPU; weights are large enough that logits have clear winners."""
    model = unfinished_model(config, attention, seed, quantize, is_fused, native)
    model.finish()
    return model


def unfinished_model(
    config: ModelConfig,
    attention: AttentionBackend | None = None,
    seed: int = 0,
    quantize: str = "none",
    is_fused: bool = False,
    native: Library | None = None,
) -> Transformer:
    """The same before its linear layers pack their weights away."""
    backend = attention or (NativeAttention(native) if native else BlockedAttention())
    model = Transformer(
        config,
        backend,
        dtype=torch.float32,
        device=CPU,
        quantize=quantize,
        is_fused=is_fused,
        native=native,
    )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        model.load(name, None, noise + 1 if name.endswith("norm.weight") else noise)
    return model


def make_cache(config: ModelConfig, num_blocks: int = 16, block_size: int = 4) -> KVCache:
    return KVCache(config, num_blocks, block_size, torch.float32, CPU)
