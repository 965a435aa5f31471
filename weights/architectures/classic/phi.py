"""Phi-1, 1.5 and 2: attention and MLP side by side, reading one norm; biases everywhere, the head's
too; a part of each head is turned."""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.heads import check_kv_heads
from thirdeye.weights.architectures.common.limits import MAX_HEADS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import gguf_rope, huggingface_rope
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=51200,
    hidden_size=2048,
    num_hidden_layers=24,
    num_attention_heads=32,
    max_position_embeddings=2048,
    intermediate_size=8192,
    activation="gelu_new",
    names={"norm_eps": "layer_norm_eps", "activation": "hidden_act"},
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("qk_layernorm", False)
    config = plain_family.huggingface_config(fields, "phi", SIZES)
    heads = fields.integer("num_key_value_heads", config.num_heads, high=MAX_HEADS)
    check_kv_heads(fields, "num_key_value_heads", config.num_heads, heads)
    if fields.raw("head_dim", config.head_dim) != config.head_dim:
        raise fields.error("head_dim", "must be the hidden size over the number of heads.")
    rope = huggingface_rope(
        fields, config.head_dim, config.max_position_embeddings, default_fraction=0.5
    )
    return replace(_side_by_side(config), num_kv_heads=heads, rope=rope)


def _side_by_side(config: ModelConfig) -> ModelConfig:
    return replace(
        config,
        is_parallel=True,
        shares_norm=True,
        head_bias=not config.tie_word_embeddings,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    qkv = "blocks.{i}.attention.qkv.weight"
    return plain_names.huggingface_names(
        config,
        layers="layers.{i}",
        layer={
            "self_attn.q_proj": TensorTarget(qkv, "q"),
            "self_attn.k_proj": TensorTarget(qkv, "k"),
            "self_attn.v_proj": TensorTarget(qkv, "v"),
            "self_attn.dense": "attention.output",
            "mlp.fc1": "mlp.up",
            "mlp.fc2": "mlp.down",
            "input_layernorm": "attention_norm",
        },
        top={"embed_tokens": "embed_tokens", "final_layernorm": "final_norm"},
        ignored=frozenset({"layers.{i}.self_attn.rotary_emb.inv_freq"}),
        prefixes=("model.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = plain_family.gguf_config(fields, file, vocab_size, "phi", Activation.GELU_TANH)
    rope = gguf_rope(fields, file, config.head_dim, is_partial=True)
    return replace(_side_by_side(config), rope=rope)


PHI = Architecture(
    models="Phi-1, 1.5 and 2",
    model_types=("phi",),
    gguf_architectures=("phi2",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=plain_names.gguf_names,
)
