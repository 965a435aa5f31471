"""Llama: rotary positions, RMSNorm, grouped-query attention, a gated SiLU MLP.

SmolLM2 and many others are Llamas by shape. Rotary scaling is in
`thirdeye.weights.architectures.rope_settings`.
"""

from thirdeye.model.config import Activation, ModelConfig, Norm
from thirdeye.weights.architectures.limits import (
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_VOCAB,
)
from thirdeye.weights.architectures.name_table import (
    NameTable,
    TensorTarget,
    rotate_half_rows,
    with_bias,
)
from thirdeye.weights.architectures.rope_settings import gguf_rope, huggingface_rope
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


def huggingface_config(fields: Fields) -> ModelConfig:
    if (activation := fields.text("hidden_act", "silu")) != "silu":
        raise fields.error("hidden_act", f"'{activation:.40}' is not supported; supported is silu.")
    fields.refuse("is_causal", True)
    for part in (fields, fields.nested("rope_parameters"), fields.nested("rope_scaling")):
        if part is not None:  # libraries differ in whether a Llama obeys it
            part.refuse("partial_rotary_factor", 1.0)
    hidden_size = fields.integer("hidden_size", 4096, high=MAX_HIDDEN)
    num_heads = fields.integer("num_attention_heads", 32, high=MAX_HEADS)
    num_kv_heads = fields.integer("num_key_value_heads", num_heads, high=MAX_HEADS)
    _check_heads(fields, "num_key_value_heads", num_heads, num_kv_heads)
    head_dim = _head_dim(fields, "head_dim", "num_attention_heads", hidden_size, num_heads)
    attention_bias = fields.boolean("attention_bias", False)
    max_position_embeddings = fields.integer("max_position_embeddings", 2048, high=MAX_POSITIONS)
    return ModelConfig(
        architecture="llama",
        vocab_size=fields.integer("vocab_size", 32000, high=MAX_VOCAB),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", 11008, high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer("num_hidden_layers", 32, high=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        norm=Norm.RMS_NORM,
        norm_eps=fields.positive("rms_norm_eps", 1e-6),
        activation=Activation.SILU,
        gated_mlp=True,
        rope=huggingface_rope(fields, head_dim, max_position_embeddings),
        qkv_bias=attention_bias,
        attention_output_bias=attention_bias,
        mlp_bias=fields.boolean("mlp_bias", False),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", False),
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    fields.refuse("expert_count", 0)
    fields.refuse("attention.causal", True)
    fields.refuse("attention.sliding_window", 0)
    hidden_size = fields.integer("embedding_length", high=MAX_HIDDEN)
    num_heads = fields.integer("attention.head_count", high=MAX_HEADS)
    num_kv_heads = fields.integer("attention.head_count_kv", num_heads, high=MAX_HEADS)
    _check_heads(fields, "attention.head_count_kv", num_heads, num_kv_heads)
    head_dim = _head_dim(
        fields, "attention.key_length", "attention.head_count", hidden_size, num_heads
    )
    if fields.integer("attention.value_length", head_dim, high=MAX_HEAD_DIM) != head_dim:
        raise fields.error("attention.value_length", f"must equal the key length {head_dim}.")
    return ModelConfig(
        architecture="llama",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=fields.integer("feed_forward_length", high=MAX_INTERMEDIATE),
        num_hidden_layers=fields.integer("block_count", high=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_position_embeddings=fields.integer("context_length", high=MAX_POSITIONS),
        norm=Norm.RMS_NORM,
        norm_eps=fields.positive("attention.layer_norm_rms_epsilon"),
        activation=Activation.SILU,
        gated_mlp=True,
        rope=gguf_rope(fields, file, head_dim),
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        attention_output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in file.tensors,
        tie_word_embeddings="output.weight" not in file.tensors,
    )


def _check_heads(fields: Fields, key: str, num_heads: int, num_kv_heads: int) -> None:
    if num_heads % num_kv_heads:
        raise fields.error(key, f"{num_kv_heads} key-value heads do not divide {num_heads} heads.")


def _head_dim(fields: Fields, key: str, heads_key: str, hidden_size: int, num_heads: int) -> int:
    if key in fields:
        head_dim = fields.integer(key, high=MAX_HEAD_DIM)
    elif hidden_size % num_heads:
        raise fields.error(
            heads_key, f"{num_heads} heads do not divide the hidden size {hidden_size}."
        )
    else:
        head_dim = hidden_size // num_heads
    if head_dim % 2:
        raise fields.error(key, f"rotary positions need an even head size, got {head_dim}.")
    return head_dim


def huggingface_names(config: ModelConfig) -> NameTable:
    layer = "model.layers.{i}"
    names = with_bias(
        {
            f"{layer}.self_attn.q_proj.weight": TensorTarget(
                "blocks.{i}.attention.qkv.weight", "q"
            ),
            f"{layer}.self_attn.k_proj.weight": TensorTarget(
                "blocks.{i}.attention.qkv.weight", "k"
            ),
            f"{layer}.self_attn.v_proj.weight": TensorTarget(
                "blocks.{i}.attention.qkv.weight", "v"
            ),
            f"{layer}.self_attn.o_proj.weight": TensorTarget("blocks.{i}.attention.output.weight"),
            f"{layer}.mlp.gate_proj.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "gate"),
            f"{layer}.mlp.up_proj.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "up"),
            f"{layer}.mlp.down_proj.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
        }
    )
    names |= {
        "model.embed_tokens.weight": TensorTarget("embed_tokens.weight"),
        f"{layer}.input_layernorm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        f"{layer}.post_attention_layernorm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
        "model.norm.weight": TensorTarget("final_norm.weight"),
    }
    ignored = {f"{layer}.self_attn.rotary_emb.inv_freq"}  # computed from the config
    if config.tie_word_embeddings:
        ignored.add("lm_head.weight")  # a copy of the embedding
    else:
        names["lm_head.weight"] = TensorTarget("lm_head.weight")
    return NameTable(names, frozenset(ignored), config.num_hidden_layers)


def gguf_names(config: ModelConfig) -> NameTable:
    undo_q, undo_k = rotate_half_rows(config.num_heads), rotate_half_rows(config.num_kv_heads)
    names = with_bias(
        {
            "blk.{i}.attn_q.weight": TensorTarget("blocks.{i}.attention.qkv.weight", "q", undo_q),
            "blk.{i}.attn_k.weight": TensorTarget("blocks.{i}.attention.qkv.weight", "k", undo_k),
            "blk.{i}.attn_v.weight": TensorTarget("blocks.{i}.attention.qkv.weight", "v"),
            "blk.{i}.attn_output.weight": TensorTarget("blocks.{i}.attention.output.weight"),
            "blk.{i}.ffn_gate.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "gate"),
            "blk.{i}.ffn_up.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "up"),
            "blk.{i}.ffn_down.weight": TensorTarget("blocks.{i}.mlp.down.weight"),
        }
    )
    names |= {
        "token_embd.weight": TensorTarget("embed_tokens.weight"),
        "blk.{i}.attn_norm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        "blk.{i}.ffn_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
        "output_norm.weight": TensorTarget("final_norm.weight"),
        "output.weight": TensorTarget("lm_head.weight"),
    }
    ignored = {"rope_freqs.weight"}  # became the config's rope scaling
    return NameTable(names, frozenset(ignored), config.num_hidden_layers)
