"""Well-known model shapes by name, for benchmarks that do without weights.

Sizes are those of the models' published configs. Only what a step costs is here: no tokenizer, no
weights, no file.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig, Norm, RopeConfig

LLAMA3_8B = ModelConfig(
    architecture="llama",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_position_embeddings=8192,
    norm=Norm.RMS_NORM,
    norm_eps=1e-5,
    activation=Activation.SILU,
    gated_mlp=True,
    rope=RopeConfig(theta=500_000.0, dim=128),
    qkv_bias=False,
    attention_output_bias=False,
    mlp_bias=False,
    tie_word_embeddings=False,
)

QWEN3_0_6B = replace(
    LLAMA3_8B,
    architecture="qwen3",
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_heads=16,
    max_position_embeddings=40960,
    norm_eps=1e-6,
    rope=RopeConfig(theta=1_000_000.0, dim=128),
    tie_word_embeddings=True,
    qk_norm=True,
)

SMOLLM2_135M = replace(
    LLAMA3_8B,
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    rope=RopeConfig(theta=100_000.0, dim=64),
    tie_word_embeddings=True,
)

GPT2_XL = ModelConfig(
    architecture="gpt2",
    vocab_size=50257,
    hidden_size=1600,
    intermediate_size=6400,
    num_hidden_layers=48,
    num_heads=25,
    num_kv_heads=25,
    head_dim=64,
    max_position_embeddings=1024,
    norm=Norm.LAYER_NORM,
    norm_eps=1e-5,
    activation=Activation.GELU_TANH,
    gated_mlp=False,
    rope=None,
    qkv_bias=True,
    attention_output_bias=True,
    mlp_bias=True,
    tie_word_embeddings=True,
)

TINY = replace(  # to try a benchmark out
    LLAMA3_8B,
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    rope=RopeConfig(theta=10_000.0, dim=16),
)

SHAPES = {
    "llama3-8b": LLAMA3_8B,
    "qwen3-0.6b": QWEN3_0_6B,
    "gpt2-xl": GPT2_XL,
    "smollm2-135m": SMOLLM2_135M,
    "tiny": TINY,
}
