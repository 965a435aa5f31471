"""Tiny random checkpoints, written by other people's code: transformers and the gguf package."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

Model = TypeVar("Model", bound=PreTrainedModel)


def llama(**changes: Any) -> LlamaForCausalLM:
    """2 layers, 4 heads over 2 key-value heads; every parameter random, norms and biases too."""
    sizes = {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    return randomized(LlamaForCausalLM(LlamaConfig(**(sizes | changes))))


def gpt2(**changes: Any) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return randomized(GPT2LMHeadModel(GPT2Config(**(sizes | changes))))


def randomized(model: Model) -> Model:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def save(model: PreTrainedModel, path: Path, **options: Any) -> Path:
    model.save_pretrained(path, **options)
    return path


# Hugging Face's names -> GGUF's, inside a layer.
LLAMA_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
GEMMA2_NAMES = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
OTHER_NAMES = {
    "seed_oss": {"post_attention_layernorm": "post_attention_norm"},
    "gemma2": GEMMA2_NAMES,
    "gemma3": GEMMA2_NAMES,
    "phi3": {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
    "olmo2": GEMMA2_NAMES,
}
LLAMA_TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
GPT2_NAMES = {
    "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm",
}  # fmt: skip
GPT2_TOP = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def permute(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k: interleave the two halves of each head."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def llama_gguf(
    model: PreTrainedModel,
    path: Path,
    extra: dict[str, np.ndarray] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    describe: Callable[[gguf.GGUFWriter], None] | None = None,
) -> Path:
    """A Llama or a relative as llama.cpp's converter writes it; matrices are stored as `kind`.
    `describe` adds more metadata."""
    config = model.config
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        config.model_type, config.model_type
    )
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(config.head_dim * rope.get("partial_rotary_factor", 1.0)))
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    add_rope_scaling(writer, rope, config)
    if architecture in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if architecture == "granite":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if describe is not None:
        describe(writer)
    heads = {}
    if architecture in ("llama", "arcee", "smollm3", "granite"):
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, leaf = name.rsplit(".", 1)
        values = tensor.numpy()
        if architecture.startswith("gemma") and stem.endswith("norm"):
            values = values + 1
        if (projection := stem.rsplit(".", 1)[-1]) in heads:
            values = permute(values, heads[projection])
        names = LLAMA_NAMES | OTHER_NAMES.get(architecture, {})
        add(writer, f"{gguf_stem(stem, LLAMA_TOP, names)}.{leaf}", values, kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    return finished(writer, path)


def add_rope_scaling(writer: gguf.GGUFWriter, rope: dict[str, Any], config: Any) -> None:
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "longrope":
        factor = config.max_position_embeddings / rope["original_max_position_embeddings"]
        scale = math.sqrt(1 + math.log(factor) / math.log(rope["original_max_position_embeddings"]))
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(scale)
        for kind in ("long", "short"):
            values = np.array(rope[f"{kind}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{kind}.weight", values)


def gpt2_gguf(model: GPT2LMHeadModel, path: Path) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    for name, tensor in model.transformer.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        is_conv1d = stem.rsplit(".", 1)[-1].startswith("c_") and kind == "weight"
        values = (tensor.t() if is_conv1d else tensor).contiguous().numpy()
        writer.add_tensor(f"{gguf_stem(stem, GPT2_TOP, GPT2_NAMES)}.{kind}", values)
    return finished(writer, path)


def add(
    writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType
) -> None:
    """As llama-quantize does: vectors stay in 32 bits."""
    if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


def gguf_stem(stem: str, top: dict[str, str], in_layer: dict[str, str]) -> str:
    if stem in top:
        return top[stem]
    layer, rest = stem.removeprefix("model.layers.").removeprefix("h.").split(".", 1)
    return f"blk.{layer}.{in_layer[rest]}"


def finished(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
