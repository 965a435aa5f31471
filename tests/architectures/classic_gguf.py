"""GGUF files of the families from before Llama, written as llama.cpp's converter does."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.weights.tiny import finished, permute

# Hugging Face's names -> GGUF's, inside a layer, of all these families.
IN_LAYER = {
    "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.dense": "attn_output", "self_attn.o_proj": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_proj": "ffn_gate",
    "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "norm_1": "attn_norm", "norm_2": "ffn_norm",
    "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2",
}  # fmt: skip
TOP = {
    "embed_in": "token_embd", "wte": "token_embd", "embed_tokens": "token_embd",
    "word_embeddings": "token_embd", "word_embeddings_layernorm": "token_embd_norm",
    "wpe": "position_embd", "ln_f": "output_norm", "norm_f": "output_norm",
    "final_layer_norm": "output_norm", "final_layernorm": "output_norm", "norm": "output_norm",
    "embed_out": "output", "lm_head": "output",
}  # fmt: skip
PREFIXES = ("gpt_neox.", "transformer.", "model.")
LAYERS = ("layers.", "h.", "blocks.")
ARCHITECTURES = {
    "gpt_neox": "gptneox",
    "phi": "phi2",
    "gpt_bigcode": "starcoder",
}


def parted(rows: np.ndarray, num_kv_heads: int, group: int) -> np.ndarray:
    """Each key head's queries, key and value lie together; here one kind after the other."""
    heads = rows.reshape(num_kv_heads, group + 2, -1, *rows.shape[1:])
    query, key, value = np.split(heads, [group, group + 1], axis=1)
    return np.concatenate([x.reshape(-1, *rows.shape[1:]) for x in (query, key, value)])


def classic_gguf(model: PreTrainedModel, path: Path) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, ARCHITECTURES.get(config.model_type, config.model_type))
    heads = config.num_attention_heads
    writer.add_context_length(context_of(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(wide_of(config))
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(eps_of(config))
    for setting in SETTINGS.get(config.model_type, ()):
        setting(writer, config)
    reorder = REORDERED.get(config.model_type, lambda config, name, rows: rows)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, leaf = name.rsplit(".", 1)
        values = reorder(config, stem.rsplit(".", 1)[-1], tensor.contiguous().numpy())
        writer.add_tensor(f"{stem_of(stem)}.{leaf}", values)
    return finished(writer, path)


def stem_of(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if name in TOP:
        return TOP[name]
    for prefix in LAYERS:
        name = name.removeprefix(prefix)
    layer, rest = name.split(".", 1)
    return f"blk.{layer}.{IN_LAYER[rest]}"


def context_of(config: Any) -> int:
    names = ("max_position_embeddings", "seq_length", "max_seq_len")
    return next(getattr(config, name) for name in names if hasattr(config, name))


def wide_of(config: Any) -> int:
    names = ("intermediate_size", "ffn_hidden_size", "n_inner")
    found = (getattr(config, name, None) for name in names)
    return next((size for size in found if size), 4 * config.hidden_size)


def eps_of(config: Any) -> float:
    names = ("layer_norm_eps", "layer_norm_epsilon")
    return next((getattr(config, name) for name in names if hasattr(config, name)), 1e-5)


def rotary(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    dim = config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(int(dim * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])


def parallel(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_parallel_residual(config.use_parallel_residual)


def kv_heads(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_head_count_kv(num_kv_heads(config))


def clip(writer: gguf.GGUFWriter, config: Any) -> None:
    limit = getattr(config, "attn_config", config).clip_qkv
    if limit is not None:
        writer.add_clamp_kqv(limit)


def alibi(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_max_alibi_bias(config.attn_config.alibi_bias_max)


def num_kv_heads(config: Any) -> int:
    if config.model_type == "falcon" and not config.new_decoder_architecture:
        return 1 if config.multi_query else config.num_attention_heads
    if config.model_type == "falcon":
        return config.num_kv_heads
    return config.num_key_value_heads


SETTINGS = {
    "gpt_neox": (rotary, parallel),
    "phi": (rotary, kv_heads),
    "falcon": (kv_heads,),
    "gpt_bigcode": (kv_heads,),
    "mpt": (alibi, clip),
    "olmo": (rotary, kv_heads, clip),
}


def merged(config: Any, name: str, rows: np.ndarray) -> np.ndarray:
    if name != "query_key_value":
        return rows
    groups = num_kv_heads(config) if config.model_type == "falcon" else config.num_attention_heads
    return parted(rows, groups, config.num_attention_heads // groups)


def turned(config: Any, name: str, rows: np.ndarray) -> np.ndarray:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return permute(rows, heads[name]) if name in heads else rows


REORDERED = {"gpt_neox": merged, "falcon": merged, "bloom": merged, "olmo": turned}
