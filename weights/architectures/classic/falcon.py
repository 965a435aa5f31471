"""Falcon: attention and MLP side by side, few or one key heads, no biases, in three forms.

7B: one norm, one key head. 40B and 180B: a norm each and groups of heads. 11B: groups, one norm.
The RefinedWeb models, falcon-rw, have key heads for all, biases, and ALiBi instead of rotation;
transformers rounds that to bfloat16, which is not done here.
"""

from dataclasses import replace

from thirdeye.model.config import Activation, Alibi, AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic import plain_family, plain_names
from thirdeye.weights.architectures.classic.plain_family import Sizes
from thirdeye.weights.architectures.common.heads import check_kv_heads
from thirdeye.weights.architectures.common.limits import MAX_HEADS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.rope_settings import (
    gguf_rope,
    huggingface_rope,
    refuse_partial_rotation,
)
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

SIZES = Sizes(
    vocab_size=65024,
    hidden_size=4544,
    num_hidden_layers=32,
    num_attention_heads=71,
    max_position_embeddings=2048,
    is_tied=True,
    names={"intermediate_size": "ffn_hidden_size", "norm_eps": "layer_norm_epsilon"},
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = plain_family.huggingface_config(fields, "falcon", SIZES)
    heads = config.num_heads
    is_new = fields.boolean("new_decoder_architecture", False)
    is_parallel = is_new or fields.boolean("parallel_attn", True)
    if fields.boolean("multi_query", True) or is_new:
        kv_heads = fields.integer("num_kv_heads", heads, high=MAX_HEADS) if is_new else 1
        check_kv_heads(fields, "num_kv_heads", heads, kv_heads)
    else:
        kv_heads = heads
    norms = fields.integer("num_ln_in_parallel_attn", 2 if is_new else 1, high=2)
    if norms == 2 and not is_new:
        raise fields.error("num_ln_in_parallel_attn", "must be 1, but in the new architecture.")
    attention: tuple[AttentionSpec, ...] = ()
    has_alibi = fields.boolean("alibi", False)
    if has_alibi:  # added before scores are scaled, so the slopes are too
        spec = AttentionSpec(alibi=Alibi(scale=config.head_dim**-0.5))
        attention = (spec,) * config.num_hidden_layers
    rope = huggingface_rope(fields, config.head_dim, config.max_position_embeddings)
    refuse_partial_rotation(fields)
    bias = fields.boolean("bias", False)
    return replace(
        config,
        num_kv_heads=kv_heads,
        rope=None if has_alibi else rope,
        attention=attention,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=bias,
        is_parallel=is_parallel,
        shares_norm=is_parallel and norms == 1,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    group = config.num_heads // config.num_kv_heads
    qkv = TensorTarget(
        "blocks.{i}.attention.qkv.weight",
        reorder=plain_names.parted_qkv(config.num_kv_heads, group),
    )
    norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
    if config.is_parallel and not config.shares_norm:
        norms = {"ln_attn": "attention_norm", "ln_mlp": "mlp_norm"}
    return plain_names.huggingface_names(
        config,
        layers="h.{i}",
        layer={
            "self_attention.query_key_value": qkv,
            "self_attention.dense": "attention.output",
            "mlp.dense_h_to_4h": "mlp.up",
            "mlp.dense_4h_to_h": "mlp.down",
            **norms,
        },
        top={"word_embeddings": "embed_tokens", "ln_f": "final_norm"},
        ignored=frozenset({"h.{i}.self_attention.rotary_emb.inv_freq"}),
        prefixes=("transformer.",),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = plain_family.gguf_config(fields, file, vocab_size, "falcon", Activation.GELU)
    return replace(
        config,
        rope=gguf_rope(fields, file, config.head_dim),
        qkv_bias=False,
        attention_output_bias=False,
        mlp_bias=False,
        is_parallel=True,
        shares_norm="blk.0.attn_norm_2.weight" not in file.tensors,
    )


def gguf_names(config: ModelConfig) -> NameTable:
    """Where there are two norms, the first is the MLP's."""
    if config.shares_norm:
        return plain_names.gguf_names(config)
    norms = {
        "attn_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
        "attn_norm_2.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
    }
    return plain_names.gguf_names(config, norms)


FALCON = Architecture(
    models="Falcon 7B, 40B, 180B, Falcon 2 11B, falcon-rw (Falcon 3 is a `llama`)",
    model_types=("falcon",),
    gguf_architectures=("falcon",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
