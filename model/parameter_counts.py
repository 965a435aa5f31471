"""How many parameters a model has and where they are, from its config alone: no torch, no weights.

In the classic GPT a block's attention holds 4 hidden^2 weights (query, key, value, output) and its
MLP 8 hidden^2 (up and down, four times as wide): attention is one third. That is the project's
name. Models with grouped-query attention and gated MLPs have less.
"""

from dataclasses import dataclass

from thirdeye.model.config import ModelConfig, Norm


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Weights and biases of each part, over all layers. A tied head is counted as embedding."""

    embeddings: int
    positions: int
    query: int
    key: int
    value: int
    output: int
    mlp: int
    norms: int
    head: int

    @property
    def attention(self) -> int:
        return self.query + self.key + self.value + self.output

    @property
    def total(self) -> int:
        outside = self.embeddings + self.positions + self.norms + self.head
        return outside + self.attention + self.mlp

    @property
    def attention_share(self) -> float:
        """Attention's part of attention and MLP together."""
        return self.attention / (self.attention + self.mlp)

    @property
    def mlp_share(self) -> float:
        return 1 - self.attention_share


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    hidden, layers = config.hidden_size, config.num_hidden_layers
    width = config.num_heads * config.head_dim
    kv_width = config.num_kv_heads * config.head_dim
    table = config.vocab_size * hidden
    head_norms = 2 * layers * config.head_dim if config.qk_norm else 0
    vectors_per_norm = 2 if config.norm is Norm.LAYER_NORM else 1  # weight, and LayerNorm's bias
    return ParameterCounts(
        embeddings=table,
        positions=0 if config.rope else config.max_position_embeddings * hidden,
        query=layers * _linear(hidden, width, config.qkv_bias),
        key=layers * _linear(hidden, kv_width, config.qkv_bias),
        value=layers * _linear(hidden, kv_width, config.qkv_bias),
        output=layers * _linear(width, hidden, config.attention_output_bias),
        mlp=layers * _mlp(config),
        norms=(2 * layers + 1) * vectors_per_norm * hidden + head_norms,
        head=0 if config.tie_word_embeddings else table,
    )


def _linear(in_features: int, out_features: int, bias: bool) -> int:
    return in_features * out_features + (out_features if bias else 0)


def _mlp(config: ModelConfig) -> int:
    hidden, wide, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    num_up = 2 if config.gated_mlp else 1
    return num_up * _linear(hidden, wide, bias) + _linear(wide, hidden, bias)
