"""What Llama and its many relatives call their tensors; each adds to these what it has beside."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
    TensorTarget,
    rotate_half_rows,
    with_bias,
)

PREFIXES = (  # of a whole model, of the text part of one with more senses, in their two orders
    "language_model.model.",
    "model.language_model.",
    "model.text_model.",
    "language_model.",
    "model.",
)


def huggingface_names(
    config: ModelConfig,
    also: Mapping[str, TensorTarget | tuple[TensorTarget, ...]] | None = None,
    *,
    reorder_query: Reorder | None = None,
    reorder_key: Reorder | None = None,
) -> NameTable:
    """With those in `also`, which belong to a layer and start behind its number."""
    attention = "blocks.{i}.attention"
    linear = with_bias(
        {
            "self_attn.q_proj.weight": TensorTarget(f"{attention}.qkv.weight", "q", reorder_query),
            "self_attn.k_proj.weight": TensorTarget(f"{attention}.qkv.weight", "k", reorder_key),
            "self_attn.v_proj.weight": TensorTarget(f"{attention}.qkv.weight", "v"),
            "self_attn.o_proj.weight": TensorTarget(f"{attention}.output.weight"),
            **_mlp(config, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
        }
    )
    norms = {
        "input_layernorm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        "post_attention_layernorm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
    }
    layer = linear | norms | dict(also or {})
    names = {f"layers.{{i}}.{name}": target for name, target in layer.items()} | {
        "embed_tokens.weight": TensorTarget("embed_tokens.weight"),
        "norm.weight": TensorTarget("final_norm.weight"),
    }
    ignored = {"layers.{i}.self_attn.rotary_emb.inv_freq"}  # computed from the config
    if config.tie_word_embeddings:
        ignored.add("lm_head.weight")  # a copy of the embedding
    else:
        names["lm_head.weight"] = TensorTarget("lm_head.weight")
    return NameTable(names, frozenset(ignored), config.num_hidden_layers, PREFIXES)


def gguf_names(
    config: ModelConfig,
    also: Mapping[str, TensorTarget | tuple[TensorTarget, ...]] | None = None,
    *,
    reorder_query: Reorder | None = None,
    reorder_key: Reorder | None = None,
) -> NameTable:
    """With those in `also`, which belong to a layer and start behind its number. Llama's converter
    interleaves rows of q and k, most relatives' do not; any may have written q, k and v as one."""
    attention = "blocks.{i}.attention"
    linear = with_bias(
        {
            "attn_q.weight": TensorTarget(f"{attention}.qkv.weight", "q", reorder_query),
            "attn_k.weight": TensorTarget(f"{attention}.qkv.weight", "k", reorder_key),
            "attn_v.weight": TensorTarget(f"{attention}.qkv.weight", "v"),
            "attn_qkv.weight": TensorTarget(
                f"{attention}.qkv.weight", reorder=_of_all(config, reorder_query, reorder_key)
            ),
            "attn_output.weight": TensorTarget(f"{attention}.output.weight"),
            **_mlp(config, "ffn_gate", "ffn_up", "ffn_down"),
        }
    )
    norms = {
        "attn_norm.weight": TensorTarget("blocks.{i}.attention_norm.weight"),
        "ffn_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
    }
    layer = linear | norms | dict(also or {})
    names = {f"blk.{{i}}.{name}": target for name, target in layer.items()} | {
        "token_embd.weight": TensorTarget("embed_tokens.weight"),
        "output_norm.weight": TensorTarget("final_norm.weight"),
        "output.weight": TensorTarget("lm_head.weight"),
    }
    ignored = {  # they became the config's rope scaling
        "rope_freqs.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
    }
    return NameTable(names, frozenset(ignored), config.num_hidden_layers)


def _of_all(
    config: ModelConfig, reorder_query: Reorder | None, reorder_key: Reorder | None
) -> Reorder | None:
    """Of the rows of q, k and v, one after the other."""
    if reorder_query is None or reorder_key is None:
        return None
    first_key = config.num_heads * config.head_dim
    first_value = first_key + config.num_kv_heads * config.head_dim

    def undo(rows: Any) -> Any:
        order = np.arange(len(rows))
        queries, keys = reorder_query(order[:first_key]), reorder_key(order[first_key:first_value])
        return rows[np.concatenate([queries, keys, order[first_value:]])]

    return undo


def _mlp(config: ModelConfig, gate: str, up: str, down: str) -> dict[str, TensorTarget]:
    """Of a gated MLP or a plain one."""
    names = {f"{down}.weight": TensorTarget("blocks.{i}.mlp.down.weight")}
    if not config.gated_mlp:
        return names | {f"{up}.weight": TensorTarget("blocks.{i}.mlp.up.weight")}
    return names | {
        f"{gate}.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "gate"),
        f"{up}.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight", "up"),
    }


def interleaved_names(
    config: ModelConfig, also: Mapping[str, TensorTarget] | None = None
) -> NameTable:
    """transformers' names for a model that turns neighbouring channels."""
    assert config.rope is not None
    dim = config.rope.dim
    return huggingface_names(
        config,
        also,
        reorder_query=rotate_half_rows(config.num_heads, dim),
        reorder_key=rotate_half_rows(config.num_kv_heads, dim),
    )


def interleaved_gguf_names(
    config: ModelConfig, also: Mapping[str, TensorTarget] | None = None
) -> NameTable:
    """llama.cpp's names for a model that turns neighbouring channels."""
    assert config.rope is not None
    dim = config.rope.dim
    return gguf_names(
        config,
        also,
        reorder_query=rotate_half_rows(config.num_heads, dim),
        reorder_key=rotate_half_rows(config.num_kv_heads, dim),
    )


def with_norm_biases(table: NameTable) -> NameTable:
    """The same for a model whose norms are LayerNorms with biases."""
    return replace(table, names={**table.names, **with_bias(_norms(table))})


def with_norm_offset(table: NameTable, offset: float = 1.0) -> NameTable:
    """The same for a model whose norms' weights are kept less `offset`."""
    norms = {name: replace(to, offset=offset) for name, to in _norms(table).items()}
    return replace(table, names={**table.names, **norms})


def _norms(table: NameTable) -> dict[str, TensorTarget]:
    """Those of norms' weights."""
    return {
        name: to
        for name, to in table.names.items()
        if isinstance(to, TensorTarget) and to.name.endswith("norm.weight")
    }


# Norms that some families have beside the two: of each head's queries and keys, of what is added.
QUERY_NORM = TensorTarget("blocks.{i}.attention.qk_norm.query_norm.weight")
KEY_NORM = TensorTarget("blocks.{i}.attention.qk_norm.key_norm.weight")
HEAD_NORMS = {"self_attn.q_norm.weight": QUERY_NORM, "self_attn.k_norm.weight": KEY_NORM}
GGUF_HEAD_NORMS = {"attn_q_norm.weight": QUERY_NORM, "attn_k_norm.weight": KEY_NORM}
POST_NORMS = {
    "post_attention_layernorm.weight": TensorTarget("blocks.{i}.attention_post_norm.weight"),
    "post_feedforward_layernorm.weight": TensorTarget("blocks.{i}.mlp_post_norm.weight"),
}
GGUF_POST_NORMS = {
    "post_attention_norm.weight": TensorTarget("blocks.{i}.attention_post_norm.weight"),
    "post_ffw_norm.weight": TensorTarget("blocks.{i}.mlp_post_norm.weight"),
}
# What some families keep merged, in the order that the model has too.
FUSED_QKV = {"self_attn.qkv_proj.weight": TensorTarget("blocks.{i}.attention.qkv.weight")}
FUSED_GATE_UP = {"mlp.gate_up_proj.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight")}
GGUF_GATE_UP = {"ffn_up.weight": TensorTarget("blocks.{i}.mlp.gate_up.weight")}
