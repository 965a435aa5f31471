"""Parameter counts from a config against a real module's, and against known models."""

import pytest

from tests.model.tiny import GPT2, LLAMA, change, unfinished_model
from thirdeye.model.config import ModelConfig, RopeConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.parameter_counts import idle_parameters, parameter_counts
from thirdeye.server.bench.model_shapes import SMOLLM2_135M

CONFIGS = [
    LLAMA,
    GPT2,
    change(LLAMA, tie_word_embeddings=True, qkv_bias=True, num_kv_heads=1),
    change(LLAMA, attention_output_bias=True, mlp_bias=True, head_dim=20),
    change(GPT2, tie_word_embeddings=False, num_hidden_layers=3),
    change(LLAMA, qk_norm=True, head_dim=16),
    change(LLAMA, experts=ExpertsSpec(4, 2, 24, shared_size=8), dense_layers=(0,)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_counts_equal_the_modules(config: ModelConfig) -> None:
    """`thirdeye info` says what is really in memory, part by part."""
    counts = parameter_counts(config)
    sizes = {name: p.numel() for name, p in unfinished_model(config).named_parameters()}

    def total(*fragments: str) -> int:
        return sum(n for name, n in sizes.items() if any(f in name for f in fragments))

    assert counts.total == sum(sizes.values())
    assert counts.embeddings == total("embed_tokens")
    assert counts.positions == total("embed_positions")
    assert counts.attention == total("attention.qkv", "attention.output")
    assert counts.output == total("attention.output")
    assert counts.router == total(".router.")
    assert counts.mlp == total(".mlp.") - counts.router
    assert counts.norms == total("norm.")
    assert counts.head == total("lm_head")


def test_experts_that_a_token_does_not_take() -> None:
    """Qwen3-30B-A3B's published sizes: 30.5 billion, of which a token takes 3.3 (and a bit)."""
    spec = ExpertsSpec(num_experts=128, num_chosen=8, intermediate_size=768)
    config = change(
        LLAMA,
        vocab_size=151936,
        hidden_size=2048,
        num_hidden_layers=48,
        num_heads=32,
        num_kv_heads=4,
        head_dim=128,
        rope=RopeConfig(1e6, 128),
        qk_norm=True,
        tie_word_embeddings=False,
        experts=spec,
    )
    counts = parameter_counts(config)
    assert round(counts.total / 1e9, 1) == 30.5
    assert counts.total - idle_parameters(config) == 3_353_032_704
    assert counts.router == 48 * 2048 * 128


def test_attention_is_one_third_of_gpt2() -> None:
    """The project's name, and GPT-2's published size of 124 million."""
    gpt2 = change(
        GPT2,
        vocab_size=50257,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_heads=12,
        num_kv_heads=12,
        head_dim=64,
        max_position_embeddings=1024,
    )
    counts = parameter_counts(gpt2)
    assert counts.total == 124_439_808
    assert counts.attention_share == pytest.approx(1 / 3, abs=1e-3)
    assert counts.mlp_share == pytest.approx(2 / 3, abs=1e-3)


def test_smollm2() -> None:
    """The default model: 134.5 million, tied embeddings counted once."""
    assert parameter_counts(SMOLLM2_135M).total == 134_515_008
