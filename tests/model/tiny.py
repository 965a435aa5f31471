"""Tiny configs and models with random weights, the same for the same seed."""

import dataclasses
from typing import Any

import torch

from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.attention.native import NativeAttention
from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.config import Alibi, AttentionSpec, ModelConfig, RopeConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.native.library import Library
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state_spec import DeltaNetSpec, Mamba2Spec, ShortConvSpec
from thirdeye.model.transformer import Transformer
from thirdeye.server.bench.model_shapes import GPT2_XL, TINY

CPU = torch.device("cpu")

LLAMA = dataclasses.replace(
    TINY,
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    head_dim=8,
    max_position_embeddings=64,
    rope=RopeConfig(theta=10_000.0, dim=8),
)

NEAR, FAR = RopeConfig(theta=100.0, dim=8), RopeConfig(theta=10_000.0, dim=4)
MIXED = dataclasses.replace(  # every way to attend, two rotary tables and a layer without one
    LLAMA,
    num_hidden_layers=4,
    attention=(
        AttentionSpec(NEAR, window=20, softcap=3.0),
        AttentionSpec(FAR, chunk=30, sinks=True),
        AttentionSpec(None, scale=0.5, alibi=Alibi(scale=0.5)),
        AttentionSpec(NEAR, scale=0.2, window=70, softcap=1.5, sinks=True),
    ),
)

NEAR_AND_FAR = dataclasses.replace(  # as Gemma 3 has it: most layers see little, some see all
    LLAMA,
    num_hidden_layers=6,
    attention=tuple(
        AttentionSpec(FAR) if layer % 3 == 2 else AttentionSpec(NEAR, window=20)
        for layer in range(6)
    ),
)

OF_LATENTS = LatentSpec(size=20, rope_size=8, key_size=12, value_size=10, query_size=24)
LATENT = (
    dataclasses.replace(  # heads that look at one latent a token, their queries made of another
        LLAMA,
        num_kv_heads=1,
        head_dim=OF_LATENTS.kept_size,
        attention=(AttentionSpec(LLAMA.rope, scale=0.3, has_values=False, latent=OF_LATENTS),) * 2,
    )
)

HYBRID = dataclasses.replace(  # layers that keep a state beside those that attend
    LLAMA,
    num_hidden_layers=3,
    state=ShortConvSpec(channels=32, kernel=3),
    state_layers=(1,),
)

DELTA = dataclasses.replace(
    HYBRID, attention_gate=True, state=DeltaNetSpec(2, 4, key_size=8, value_size=12, kernel=4)
)

MAMBA = dataclasses.replace(HYBRID, state=Mamba2Spec(4, 2, head_size=12, state_size=8, kernel=4))

BESIDE = dataclasses.replace(MAMBA, state_layers=(0, 1, 2), state_beside=True)

GPT2 = dataclasses.replace(
    GPT2_XL,
    vocab_size=97,
    hidden_size=32,
    intermediate_size=128,
    num_hidden_layers=2,
    num_heads=4,
    num_kv_heads=4,
    head_dim=8,
    max_position_embeddings=64,
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
    max_adapters: int = 0,
) -> Transformer:
    """An fp32 model on the CPU; weights are large enough that logits have clear winners."""
    model = unfinished_model(config, attention, seed, quantize, is_fused, native, max_adapters)
    model.finish()
    return model


def unfinished_model(
    config: ModelConfig,
    attention: AttentionBackend | None = None,
    seed: int = 0,
    quantize: str = "none",
    is_fused: bool = False,
    native: Library | None = None,
    max_adapters: int = 0,
    is_deterministic: bool = False,
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
        is_deterministic=is_deterministic,
        max_adapters=max_adapters,
    )
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        model.load(name, None, noise + 1 if name.endswith("norm.weight") else noise)
    return model


def make_cache(config: ModelConfig, num_blocks: int = 16, block_size: int = 4) -> KVCache:
    return KVCache(config, num_blocks, block_size, torch.float32, CPU)
