"""BLOOM: ALiBi instead of positions, and embeddings that are normed."""

from dataclasses import replace

from thirdeye.model.config import Activation, Alibi, AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget, with_bias
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=250880,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=8,
    max_position_embeddings=2048,
    activation="gelu_pytorch_tanh",  # no setting of its class
    is_tied=True,
    names={
        "hidden_size": "n_embed",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "seq_length",  # what it was trained on
        "norm_eps": "layer_norm_epsilon",
    },
)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("apply_residual_connection_post_layernorm", "slow_but_exact"):
        fields.refuse(key, False)
    for key in ("intermediate_size", "activation"):
        fields.refuse(key)
    return _normed(plain_family.huggingface_config(fields, "bloom", SIZES))


def _normed(config: ModelConfig) -> ModelConfig:
    attention = (AttentionSpec(alibi=Alibi()),) * config.num_hidden_layers
    return replace(config, attention=attention, embedding_norm=True)


def huggingface_names(config: ModelConfig) -> NameTable:
    qkv = TensorTarget(
        "blocks.{i}.attention.qkv.weight", reorder=plain_names.parted_qkv(config.num_heads)
    )
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "self_attention.query_key_value": qkv,
            "self_attention.dense": "attention.output",
            "mlp.dense_h_to_4h": "mlp.up",
            "mlp.dense_4h_to_h": "mlp.down",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "mlp_norm",
        },
        top={
            "word_embeddings": "embed_tokens",
            "word_embeddings_layernorm": "embed_norm",
            "ln_f": "final_norm",
        },
        prefixes=("transformer.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return _normed(
        plain_family.gguf_config(fields, file, vocab_size, "bloom", Activation.GELU_TANH)
    )


def gguf_names(config: ModelConfig) -> NameTable:
    table = plain_names.gguf_names(config)
    norm = with_bias({"token_embd_norm.weight": TensorTarget("embed_norm.weight")})
    return replace(table, names={**table.names, **norm})


BLOOM = Architecture(
    models="BLOOM, BLOOMZ",
    model_types=("bloom",),
    gguf_architectures=("bloom",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
