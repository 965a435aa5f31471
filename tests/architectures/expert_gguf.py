"""Models with experts as llama.cpp's converters write them: a layer's experts in one tensor."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.architectures.gguf_forms import llama3_factors
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, add, finished, gguf_stem, permute

F32 = gguf.GGMLQuantizationType.F32
ARCHITECTURES = {
    "qwen3_moe": "qwen3moe", "qwen2_moe": "qwen2moe", "mixtral": "llama", "olmoe": "olmoe",
    "granitemoe": "granitemoe", "glm4_moe": "glm4moe", "ernie4_5_moe": "ernie4_5-moe",
    "gpt_oss": "gpt-oss", "qwen3_vl_moe": "qwen3vlmoe", "llama4_text": "llama4",
}  # fmt: skip
PERMUTED = ("mixtral", "granitemoe")
AFTER_ATTENTION = ("glm4_moe", "gpt_oss")  # whose second norm is named for where it stands
ALONE = {  # transformers' names in memory -> GGUF's
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.router": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "feed_forward.router": "ffn_gate_inp", "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up", "feed_forward.down_proj": "ffn_down",
    "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj": "ffn_up_shexp",
    "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
GUESSING = {  # of the head behind the last layer that guesses one more token
    "enorm": "nextn.enorm", "hnorm": "nextn.hnorm", "eh_proj": "nextn.eh_proj",
    "embed_tokens": "nextn.embed_tokens", "shared_head.norm": "nextn.shared_head_norm",
    "shared_head.head": "nextn.shared_head_head",
}  # fmt: skip
STACKED = re.compile(r"model\.layers\.(\d+)\.\w+\.experts\.(gate_up_proj|down_proj)(_bias)?$")
LONE = {
    re.compile(r"model\.layers\.(\d+)\..*e_score_correction_bias$"): "exp_probs_b.bias",
    re.compile(r"model\.layers\.(\d+)\.self_attn\.sinks$"): "attn_sinks.weight",
}
Settings = Callable[[gguf.GGUFWriter, Any], None]


def expert_gguf(model: PreTrainedModel, path: Path, kind: gguf.GGMLQuantizationType = F32) -> Path:
    """Matrices of layers and experts are stored as `kind`, but for routers'."""
    config = model.config
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    add_settings(writer, config)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not config.tie_word_embeddings:
            add_tensor(writer, config, name, tensor.numpy(), kind)
    return finished(writer, path)


def add_tensor(
    writer: gguf.GGUFWriter,
    config: Any,
    name: str,
    values: np.ndarray,
    kind: gguf.GGMLQuantizationType,
) -> None:
    if found := STACKED.match(name):
        is_mixed = config.model_type == "gpt_oss"
        stack = f"blk.{found[1]}", found[2]
        if config.model_type == "llama4_text":  # [experts, in, out]
            values = values.swapaxes(1, 2)
        add_stack(writer, *stack, values, is_mixed, F32 if found[3] else kind)
        return
    for pattern, own in LONE.items():
        if found := pattern.match(name):
            writer.add_tensor(f"blk.{found[1]}.{own}", values.reshape(-1))
            return
    stem, leaf = name.rsplit(".", 1)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    if config.model_type in PERMUTED and (projection := stem.rsplit(".", 1)[-1]) in heads:
        values = permute(values, heads[projection])
    names = LLAMA_NAMES | ALONE | GUESSING
    if config.model_type in AFTER_ATTENTION:
        names |= {"post_attention_layernorm": "post_attention_norm"}
    own = gguf_stem(stem, LLAMA_TOP, names)
    add(writer, f"{own}.{leaf}", values.squeeze(), F32 if "ffn_gate_inp" in own else kind)


def add_stack(
    writer: gguf.GGUFWriter,
    layer: str,
    name: str,
    values: np.ndarray,
    is_mixed: bool,
    kind: gguf.GGMLQuantizationType,
) -> None:
    """[experts, out, in], or [experts, in, out] with gates and partners in turns; biases are
    [experts, out]."""
    leaf = "bias" if values.ndim == 2 else "weight"
    if is_mixed and leaf == "weight":
        values = values.swapaxes(1, 2)
    halves = {"down": values}
    if name != "down_proj":
        half = values.shape[1] // 2
        gate, up = (values[:, :half], values[:, half:])
        if is_mixed:
            gate, up = values[:, ::2], values[:, 1::2]
        halves = {"gate": gate, "up": up}
    for which, part in halves.items():
        own = f"{layer}.ffn_{which}_exps.{leaf}"
        if kind == F32:
            writer.add_tensor(own, np.ascontiguousarray(part))
        else:
            stored = gguf.quantize(np.ascontiguousarray(part), kind)
            writer.add_tensor(own, stored, raw_dtype=kind)


def add_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    add_guessing(writer, config)
    width = getattr(config, "intermediate_size_mlp", config.intermediate_size)
    writer.add_feed_forward_length(width)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    add_rope(writer, config.rope_parameters, head_dim)
    counts = ("num_local_experts", "num_experts", "n_routed_experts")
    writer.add_expert_count(next(getattr(config, n) for n in counts if hasattr(config, n)))
    writer.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if config.model_type in MORE:
        MORE[config.model_type](writer, config)


def add_guessing(writer: gguf.GGUFWriter, config: Any) -> None:
    """How many of the layers are such heads."""
    if number := getattr(config, "num_guessing", 0):
        writer.add_nextn_predict_layers(number)


def add_rope(writer: gguf.GGUFWriter, rope: dict[str, Any], head_dim: int) -> None:
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def add_qwen2(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def add_granite(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def add_glm(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_group_count(config.n_group)
    writer.add_expert_group_used_count(config.topk_group)


def add_ernie(writer: gguf.GGUFWriter, config: Any) -> None:
    """The width of what all tokens take is llama.cpp's own arithmetic."""
    writer.add_interleave_moe_layer_step(config.moe_layer_interval)
    writer.add_leading_dense_block_count(config.moe_layer_start_index)
    writer.add_expert_shared_count(config.moe_num_shared_experts)
    shared = config.intermediate_size // config.num_key_value_heads
    writer.add_expert_shared_feed_forward_length(shared)


def add_sections(writer: gguf.GGUFWriter, config: Any) -> None:
    """Of which text has thrice the same, and pictures more at the first layers."""
    writer.add_rope_dimension_sections([1, 1, config.head_dim // 2 - 2, 0])
    writer.add_num_deepstack_layers(1)


def add_llama4(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_feed_forward_length(config.intermediate_size)
    writer.add_interleave_moe_layer_step(config.interleave_moe_layer_step)


def add_gpt_oss(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_sliding_window(config.sliding_window)
    writer.add_expert_feed_forward_length(config.intermediate_size)


MORE: dict[str, Settings] = {
    "qwen2_moe": add_qwen2, "granitemoe": add_granite, "glm4_moe": add_glm,
    "ernie4_5_moe": add_ernie, "gpt_oss": add_gpt_oss, "qwen3_vl_moe": add_sections,
    "llama4_text": add_llama4,
}  # fmt: skip
