"""What the families from before Llama share: the keys of their settings.

    x += attention(norm(x)); x += down(gelu(up(norm x))), LayerNorms and linear layers with biases

A family reads its settings with `huggingface_config` and `gguf_config`, replaces in the result what
differs: where positions come in, which biases there are, who reads what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.weights.architectures.common.activations import read_activation
from thirdeye.weights.architectures.common.heads import check_kv_heads, split_into_heads
from thirdeye.weights.architectures.common.limits import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCAB,
)
from thirdeye.weights.architectures.common.per_layer import shared_number
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the configuration class in transformers takes for keys that a config.json leaves out.

    `names`: what a family calls a setting, where it does not call it as most do. A file may have
    either name, as transformers reads both.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    intermediate_size: int | None = None  # None: 4 times the hidden size
    norm_eps: float = 1e-5
    activation: str = "gelu"
    is_tied: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, fields: Fields, name: str) -> str:
        own = self.names.get(name, name)
        return name if name in fields and own not in fields else own


# How the relatives of GPT-2 call what others call by more words.
GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "intermediate_size": "n_inner",
    "norm_eps": "layer_norm_epsilon",
    "activation": "activation_function",
}


def huggingface_config(fields: Fields, architecture: str, sizes: Sizes) -> ModelConfig:
    """Every head has keys of its own, biases are everywhere, positions are learned."""
    fields.refuse("is_causal", True)
    fields.refuse("add_cross_attention", False)

    def read(name: str, default: int, high: int) -> int:
        return fields.integer(sizes.key(fields, name), default, high=high)

    hidden = read("hidden_size", sizes.hidden_size, MAX_HIDDEN)
    heads = read("num_attention_heads", sizes.num_attention_heads, MAX_HEADS)
    wide = sizes.intermediate_size or 4 * hidden
    context = sizes.max_position_embeddings
    return _config(
        fields,
        architecture,
        heads_key=sizes.key(fields, "num_attention_heads"),
        vocab_size=read("vocab_size", sizes.vocab_size, MAX_VOCAB),
        hidden_size=hidden,
        intermediate_size=read("intermediate_size", wide, MAX_INTERMEDIATE),
        num_hidden_layers=read("num_hidden_layers", sizes.num_hidden_layers, MAX_LAYERS),
        num_heads=heads,
        num_kv_heads=heads,
        max_position_embeddings=read("max_position_embeddings", context, MAX_POSITIONS),
        norm_eps=fields.positive(sizes.key(fields, "norm_eps"), sizes.norm_eps),
        activation=read_activation(fields, sizes.key(fields, "activation"), sizes.activation),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", sizes.is_tied),
    )


def read_clip(fields: Fields, key: str) -> float | None:
    """What queries, keys and values are cut to; 0 or nothing: they are not."""
    return fields.positive(key) if fields.raw(key, 0) else None


def gguf_config(
    fields: Fields, file: GGUFFile, vocab_size: int, architecture: str, activation: Activation
) -> ModelConfig:
    """The same of a GGUF file, which does not say what its activation is."""
    fields.refuse("expert_count", 0)
    fields.refuse("attention.causal", True)
    fields.refuse("attention.sliding_window", 0)
    heads = shared_number(fields, "attention.head_count", high=MAX_HEADS)
    return _config(
        fields,
        architecture,
        heads_key="attention.head_count",
        vocab_size=vocab_size,
        hidden_size=fields.integer("embedding_length", high=MAX_HIDDEN),
        intermediate_size=shared_number(fields, "feed_forward_length", high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer("block_count", high=MAX_LAYERS),
        num_heads=heads,
        num_kv_heads=shared_number(fields, "attention.head_count_kv", heads, high=MAX_HEADS),
        max_position_embeddings=fields.integer("context_length", high=MAX_POSITIONS),
        norm_eps=fields.positive("attention.layer_norm_epsilon"),
        activation=activation,
        tie_word_embeddings="output.weight" not in file.tensors,
    )


def _config(
    fields: Fields,
    architecture: str,
    *,
    heads_key: str,
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_heads: int,
    num_kv_heads: int,
    max_position_embeddings: int,
    norm_eps: float,
    activation: Activation,
    tie_word_embeddings: bool,
) -> ModelConfig:
    head_dim = split_into_heads(fields, heads_key, hidden_size, num_heads)
    check_kv_heads(fields, "attention.head_count_kv", num_heads, num_kv_heads)
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        norm=Norm.LAYER_NORM,
        norm_eps=norm_eps,
        activation=activation,
        gated_mlp=False,
        rope=None,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        tie_word_embeddings=tie_word_embeddings,
    )
