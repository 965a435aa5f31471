"""Gemma 4: heads of two sizes, values that are keys."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedModel

from tests.architectures.cases import TIED, VOCAB_SIZE, Case, relative
from tests.weights.tiny import GEMMA2_NAMES, LLAMA_NAMES, LLAMA_TOP, add, finished, gguf_stem

F32 = gguf.GGMLQuantizationType.F32
NEAR, FULL = "sliding_attention", "full_attention"
NAMES = LLAMA_NAMES | GEMMA2_NAMES | {
    "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm", "router.proj": "ffn_gate_inp",
    "post_feedforward_layernorm_1": "post_ffw_norm_1",
    "post_feedforward_layernorm_2": "post_ffw_norm_2",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
}  # fmt: skip
ALONE = {  # not called a weight
    "layer_scalar": "layer_output_scale.weight",
    "router.scale": "ffn_gate_inp.scale",
    "router.per_expert_scale": "ffn_down_exps.scale",
    "experts.gate_up_proj": "ffn_gate_up_exps.weight",
    "experts.down_proj": "ffn_down_exps.weight",
}
TOP = LLAMA_TOP | {
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
}


@torch.no_grad()
def scaled(model: Any) -> None:
    """Each layer by a number of its own: transformers keeps them among its buffers, all 1."""
    for number, layer in enumerate(model.model.layers):
        layer.layer_scalar.fill_(1.1 - 0.05 * number)


def gemma4_gguf(
    model: PreTrainedModel, path: Path, kind_of_table: gguf.GGMLQuantizationType = F32
) -> Path:
    """As `Gemma4Model` in llama.cpp's `conversion/gemma.py`. `kind_of_table`: of the layers' own
    table."""
    config = model.config.to_dict()
    layers = [model.config.per_layer_config[i] for i in range(config["num_hidden_layers"])]
    is_near = [kind == NEAR for kind in config["layer_types"]]
    full = layers[is_near.index(False)]
    writer = gguf.GGUFWriter(path, "gemma4")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(len(layers))
    width, num_shared = config["intermediate_size"], config["num_kv_shared_layers"]
    wide = [width] * (len(layers) - num_shared) + [2 * width] * num_shared
    writer.add_feed_forward_length(wide if config["use_double_wide_mlp"] else width)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv([layer.num_key_value_heads for layer in layers])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    add_heads(writer, config, full.head_dim)
    writer.add_sliding_window(config["sliding_window"])
    writer.add_sliding_window_pattern(is_near)
    writer.add_shared_kv_layers(config["num_kv_shared_layers"])
    writer.add_embedding_length_per_layer_input(config.get("hidden_size_per_layer_input", 0))
    if config.get("enable_moe_block"):
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["top_k_experts"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if cap := config["final_logit_softcapping"]:
        writer.add_final_logit_softcapping(cap)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            kind = kind_of_table if "tokens_per_layer" in name else F32
            add(writer, gguf_name(name), tensor.numpy(), kind)
    return finished(writer, path)


def add_heads(writer: gguf.GGUFWriter, config: Any, full_size: int) -> None:
    ropes, near_size = config["rope_parameters"], config["head_dim"]
    writer.add_key_length(full_size)
    writer.add_value_length(full_size)
    writer.add_rope_dimension_count(full_size)
    writer.add_rope_freq_base(ropes[FULL]["rope_theta"])
    writer.add_key_length_swa(near_size)
    writer.add_value_length_swa(near_size)
    writer.add_rope_dimension_count_swa(near_size)
    writer.add_rope_freq_base_swa(ropes[NEAR]["rope_theta"])
    turned = int(full_size * ropes[FULL]["partial_rotary_factor"] / 2)
    divisors = [1.0] * turned + [1e30] * (full_size // 2 - turned)
    writer.add_tensor("rope_freqs.weight", torch.tensor(divisors).numpy())


def gguf_name(name: str) -> str:
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    if rest in ALONE:
        return f"blk.{layer}.{ALONE[rest]}"
    stem, leaf = name.rsplit(".", 1)
    return f"{gguf_stem(stem, TOP, NAMES)}.{leaf}"


def gemma4(**changes: Any) -> Case:
    sizes = {
        "num_hidden_layers": 5, "layer_types": [NEAR, NEAR, FULL, NEAR, FULL], "sliding_window": 7,
        "hidden_size_per_layer_input": 0, **TIED,
    }  # fmt: skip
    case = relative("gemma4_text", gguf=gemma4_gguf, **(sizes | changes))
    return replace(case, corrected=scaled)


def unified(**changes: Any) -> Case:
    """Without what only the others have."""
    case = relative("gemma4_unified_text", gguf=gemma4_gguf, sliding_window=7, **TIED, **changes)
    return replace(case, corrected=scaled)


FULL_HEADS = {"global_head_dim": 24, "num_global_key_value_heads": 2}
FAST_ROPES = {
    FULL: {"rope_type": "proportional", "rope_theta": 1e2, "partial_rotary_factor": 0.5},
    NEAR: {"rope_type": "default", "rope_theta": 1e2},
}
GEMMA4: dict[str, Case] = {
    "gemma4_text": gemma4(
        attention_k_eq_v=True, num_key_value_heads=6, final_logit_softcapping=5.0, **FULL_HEADS
    ),
    "gemma4_text-shared": gemma4(
        num_hidden_layers=6,
        layer_types=[NEAR, NEAR, FULL, NEAR, NEAR, FULL],
        num_kv_shared_layers=2,
        use_double_wide_mlp=True,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCAB_SIZE,
        global_head_dim=32,
        rope_parameters=FAST_ROPES,
    ),
    "gemma4_text-experts": gemma4(
        num_hidden_layers=3,
        layer_types=[NEAR, NEAR, FULL],
        enable_moe_block=True,
        num_experts=6,
        top_k_experts=2,
        moe_intermediate_size=36,
        attention_k_eq_v=True,
        **FULL_HEADS,
    ),
    "gemma4_text-values": gemma4(rope_parameters=FAST_ROPES, global_head_dim=32),
    "gemma4_unified_text": unified(
        num_hidden_layers=5,
        layer_types=[NEAR, FULL, NEAR, NEAR, FULL],
        num_kv_shared_layers=2,
        attention_k_eq_v=True,
        global_head_dim=24,
        num_global_key_value_heads=2,
        rope_parameters=FAST_ROPES,
    ),
}
