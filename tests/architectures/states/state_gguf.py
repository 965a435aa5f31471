"""Models with states as llama.cpp's converters write them.

Of `conversion/lfm2.py` and `conversion/qwen.py` in llama.cpp's source.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.architectures.expert_gguf import GUESSING, STACKED, add_guessing, add_stack
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, add, finished

F32 = gguf.GGMLQuantizationType.F32
LFM2_TOP = {
    "model.embed_tokens": "token_embd",
    "model.embedding_norm": "token_embd_norm",
    "lm_head": "output",
}
LFM2_NAMES = {
    "conv.conv": "shortconv.conv", "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj", "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up", "ffn_norm": "ffn_norm",
    "operator_norm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm",
    "feed_forward.gate": "ffn_gate_inp",
}  # fmt: skip
QWEN_NAMES = LLAMA_NAMES | GUESSING | {
    "post_attention_layernorm": "post_attention_norm", "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
    "linear_attn.in_proj_ba": "ssm_ba", "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_qkv": "attn_qkv", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
QWEN = {"qwen3_next": "qwen3next", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe"}


def add_sizes(writer: gguf.GGUFWriter, config: Any, head_dim: int) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)


def lfm2_gguf(model: PreTrainedModel, path: Path) -> Path:
    config = model.config
    has_experts = config.model_type == "lfm2_moe"
    writer = gguf.GGUFWriter(path, "lfm2moe" if has_experts else "lfm2")
    add_sizes(writer, config, config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    kv_heads = config.num_key_value_heads
    writer.add_head_count_kv([kv_heads if kind != "conv" else 0 for kind in config.layer_types])
    writer.add_vocab_size(config.vocab_size)
    writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    tensors = model.state_dict()
    writer.add_feed_forward_length(len(tensors["model.layers.0.feed_forward.w1.weight"]))
    if has_experts:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_leading_dense_block_count(config.num_dense_layers)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    for name, tensor in tensors.items():
        if found := STACKED.match(name):
            add_stack(writer, f"blk.{found[1]}", found[2], tensor.numpy(), False, F32)
            continue
        stem, leaf = name.rsplit(".", 1)
        if leaf == "expert_bias":
            writer.add_tensor(f"blk.{stem.split('.')[2]}.exp_probs_b.bias", tensor.numpy())
            continue
        if stem == "lm_head" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        values = values[:, 0] if values.ndim == 3 else values
        add(writer, f"{_stem(stem, LFM2_TOP, LFM2_NAMES)}.{leaf}", values, F32)
    return finished(writer, path)


def _stem(stem: str, top: dict[str, str], names: dict[str, str]) -> str:
    if stem in top:
        return top[stem]
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{names[rest]}"


def qwen_gguf(model: PreTrainedModel, path: Path) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, QWEN[config.model_type])
    add_sizes(writer, config, config.head_dim)
    add_guessing(writer, config)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    fraction = config.rope_parameters["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(config.head_dim * fraction))
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_key_head_dim)
    writer.add_ssm_group_count(config.linear_num_key_heads)
    writer.add_ssm_time_step_rank(config.linear_num_value_heads)
    writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
    writer.add_full_attention_interval(4)
    if config.model_type != "qwen3_next":  # as of newer files
        keeps = [kind == "linear_attention" for kind in config.layer_types]
        keeps += [False] * getattr(config, "num_guessing", 0)
        writer.add_array(f"{QWEN[config.model_type]}.attention.recurrent_layers", keeps)
        writer.add_rope_dimension_sections([11, 11, 10, 0])
    if config.model_type != "qwen3_5_moe_text":
        writer.add_feed_forward_length(config.intermediate_size)
    if getattr(config, "num_experts", 0):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    for name, tensor in model.state_dict().items():
        if found := STACKED.match(name):
            add_stack(writer, f"blk.{found[1]}", found[2], tensor.numpy(), False, F32)
        elif name != "lm_head.weight" or not config.tie_word_embeddings:
            for written, values in _converted(config, name, tensor.numpy()):
                add(writer, written, np.ascontiguousarray(values), F32)
    return finished(writer, path)


def _converted(config: Any, name: str, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    stem, _, leaf = name.rpartition(".")
    if stem.endswith("conv1d"):
        values = values[:, 0]
    elif stem.endswith("shared_expert_gate"):
        values = values[0]
    elif stem.endswith("norm") and not stem.endswith("linear_attn.norm"):
        values = values + 1
    if "linear_attn" in name and config.model_type != "qwen3_next":
        values = tiled(config, name, values)
    layer = f"blk.{stem.split('.')[2]}" if "layers" in stem else ""
    if leaf == "A_log":
        yield f"{layer}.ssm_a", -np.exp(values)
    elif leaf == "dt_bias":
        yield f"{layer}.ssm_dt.bias", values
    elif stem.endswith("in_proj_qkvz"):
        qkv, z = parted(config, values)
        yield f"{layer}.attn_qkv.weight", qkv
        yield f"{layer}.attn_gate.weight", z
    else:
        yield f"{_stem(stem, LLAMA_TOP, QWEN_NAMES)}.{leaf}", values


def parted(config: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each key head's q, k, v and z -> those of all q, k and v; those of all z."""
    keys, heads = config.linear_key_head_dim, config.linear_num_key_heads
    values = config.linear_value_head_dim * config.linear_num_value_heads // heads
    by_head = rows.reshape(heads, 2 * keys + 2 * values, -1)
    ends = np.cumsum([keys, keys, values])
    q, k, v, z = (part.reshape(-1, rows.shape[1]) for part in np.split(by_head, ends, axis=1))
    return np.concatenate((q, k, v)), z


def tiled(config: Any, name: str, values: np.ndarray) -> np.ndarray:
    """Value heads that share a key head, which lie together, are put apart."""
    heads, size = config.linear_num_key_heads, config.linear_value_head_dim
    each = config.linear_num_value_heads // heads

    def apart(x: np.ndarray, size: int) -> np.ndarray:
        return x.reshape(heads, each, size, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)

    if "in_proj_qkv." in name or "conv1d" in name:
        first = 2 * heads * config.linear_key_head_dim
        return np.concatenate((values[:first], apart(values[first:], size)))
    if "in_proj_z." in name:
        return apart(values, size)
    if any(part in name for part in ("in_proj_a.", "in_proj_b.", "A_log", "dt_bias")):
        return apart(values, 1)
    if "out_proj." in name:
        return apart(values.T, size).T
    return values
