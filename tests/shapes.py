"""The default model's shape, for tests and benchmarks that do without its weights."""

from model.config import Activation, ModelConfig, Norm, RopeConfig

SMOLLM2_135M = ModelConfig(
    architecture="llama",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    max_position_embeddings=8192,
    norm=Norm.RMS_NORM,
    norm_eps=1e-5,
    activation=Activation.SILU,
    gated_mlp=True,
    rope=RopeConfig(theta=100_000.0, dim=64),
    qkv_bias=False,
    attention_output_bias=False,
    mlp_bias=False,
    tie_word_embeddings=True,
)
