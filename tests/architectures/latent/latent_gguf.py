"""Models with latents as llama.cpp's converters write them: of each head the matrices to its keys
and to its values apart, the former across; in files of before April 2025 one matrix for all."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.architectures.expert_gguf import (
    ALONE,
    GUESSING,
    LONE,
    STACKED,
    add_guessing,
    add_rope,
    add_stack,
)
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, add, finished, gguf_stem

F32 = gguf.GGMLQuantizationType.F32
NAMES = {
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_b_proj": "attn_kv_b",
}  # fmt: skip


def latent_gguf(
    model: PreTrainedModel,
    path: Path,
    kind: gguf.GGMLQuantizationType = F32,
    *,
    is_split: bool = True,
) -> Path:
    """Matrices of layers and experts are stored as `kind`, but for routers'."""
    config = model.config
    is_mistral = config.model_type == "mistral4"
    writer = gguf.GGUFWriter(path, "mistral4" if is_mistral else "deepseek2")
    add_settings(writer, config, is_split)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, leaf = name.rsplit(".", 1)
        if is_split and stem.endswith("kv_b_proj"):
            add_heads(writer, gguf_stem(stem, LLAMA_TOP, LLAMA_NAMES | NAMES), config, tensor, kind)
        else:
            add_tensor(writer, name, stem, leaf, tensor.numpy(), kind)
    return finished(writer, path)


def minicpm3_gguf(model: PreTrainedModel, path: Path) -> Path:
    """Nothing says by how much it scales, nor how wide a value is."""
    config = model.config
    writer = gguf.GGUFWriter(path, "minicpm3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    writer.add_key_length(config.qk_nope_head_dim + config.qk_rope_head_dim)
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not config.tie_word_embeddings:
            stem, leaf = name.rsplit(".", 1)
            add_tensor(writer, name, stem, leaf, tensor.numpy(), F32)
    return finished(writer, path)


def old_latent_gguf(model: PreTrainedModel, path: Path) -> Path:
    return latent_gguf(model, path, is_split=False)


def add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    stem: str,
    leaf: str,
    values: np.ndarray,
    kind: gguf.GGMLQuantizationType,
) -> None:
    if found := STACKED.match(name):
        if writer.arch == "mistral4" and found[2] == "gate_up_proj":  # as it is
            writer.add_tensor(f"blk.{found[1]}.ffn_gate_up_exps.weight", values)
            return
        add_stack(writer, f"blk.{found[1]}", found[2], values, False, kind)
        return
    for pattern, own in LONE.items():
        if found := pattern.match(name):
            writer.add_tensor(f"blk.{found[1]}.{own}", values.reshape(-1))
            return
    own = gguf_stem(stem, LLAMA_TOP, LLAMA_NAMES | ALONE | GUESSING | NAMES)
    add(writer, f"{own}.{leaf}", values, F32 if "ffn_gate_inp" in own else kind)


def add_heads(
    writer: gguf.GGUFWriter, own: str, config: Any, tensor: Any, kind: gguf.GGMLQuantizationType
) -> None:
    size = config.qk_nope_head_dim
    heads = tensor.numpy().reshape(config.num_attention_heads, -1, config.kv_lora_rank)
    layer = own.removesuffix("attn_kv_b")
    keys = np.ascontiguousarray(heads[:, :size].swapaxes(1, 2))
    for which, part in (("k", keys), ("v", np.ascontiguousarray(heads[:, size:]))):
        name = f"{layer}attn_{which}_b.weight"
        if kind == F32 or part.shape[-1] % 32:
            writer.add_tensor(name, part)
        else:
            writer.add_tensor(name, gguf.quantize(part, kind), raw_dtype=kind)


def add_settings(writer: gguf.GGUFWriter, config: Any, is_split: bool) -> None:
    head_size = config.qk_nope_head_dim + config.qk_rope_head_dim
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    add_guessing(writer, config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    if is_split:
        writer.add_head_count_kv(1)
        writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
        writer.add_value_length(config.kv_lora_rank)
        writer.add_key_length_mla(head_size)
        writer.add_value_length_mla(config.v_head_dim)
    else:
        writer.add_head_count_kv(config.num_attention_heads)
        writer.add_key_length(head_size)
        writer.add_value_length(config.v_head_dim)
    turned = config.rope_parameters | {"partial_rotary_factor": 1.0}  # of what is not the latent
    add_rope(writer, turned, config.qk_rope_head_dim)
    if config.rope_parameters["rope_type"] == "yarn":
        writer.add_rope_scaling_yarn_log_mul(0.1 * config.rope_parameters["mscale_all_dim"])
    if "llama_4_scaling_beta" in config.rope_parameters:
        writer.add_attn_temperature_scale(config.rope_parameters["llama_4_scaling_beta"])
        original = config.rope_parameters["original_max_position_embeddings"]
        writer.add_attn_temperature_length(original)
    if hasattr(config, "n_routed_experts"):
        add_experts(writer, config)
    else:
        writer.add_leading_dense_block_count(config.num_hidden_layers)
        writer.add_expert_feed_forward_length(config.intermediate_size)
        writer.add_expert_shared_count(0)


def dense_first(config: Any) -> int:
    kinds = getattr(config, "mlp_layer_types", None)
    return kinds.count("dense") if kinds else int(config.first_k_dense_replace)


def add_experts(writer: gguf.GGUFWriter, config: Any) -> None:
    is_v2, is_v3 = config.model_type == "deepseek_v2", config.model_type != "mistral4"
    kinds = gguf.ExpertGatingFuncType
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_leading_dense_block_count(dense_first(config))
    if is_v3:
        writer.add_expert_gating_func(kinds.SOFTMAX if is_v2 else kinds.SIGMOID)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(bool(config.norm_topk_prob))
    if config.n_group and (not is_v2 or config.topk_method == "group_limited_greedy"):
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
