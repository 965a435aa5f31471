"""Models with experts, as tiny models of transformers' own classes, and as llama.cpp's converters
write them: all experts of a layer in one tensor."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.architectures.cases import Case, relative
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, add, finished, gguf_stem, permute

F32 = gguf.GGMLQuantizationType.F32
ARCHITECTURES = {
    "qwen3_moe": "qwen3moe", "qwen2_moe": "qwen2moe", "mixtral": "llama", "olmoe": "olmoe",
    "granitemoe": "granitemoe",
}  # fmt: skip
PERMUTED = ("mixtral", "granitemoe")
ALONE = {  # transformers' names in memory -> GGUF's
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.router": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
STACKED = re.compile(r"model\.layers\.(\d+)\.\w+\.experts\.(gate_up_proj|down_proj)$")


def expert_gguf(model: PreTrainedModel, path: Path) -> Path:
    config = model.config
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    add_settings(writer, config)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if found := STACKED.match(name):
            add_stack(writer, f"blk.{found[1]}", found[2], values)
            continue
        stem, leaf = name.rsplit(".", 1)
        if config.model_type in PERMUTED and (projection := stem.rsplit(".", 1)[-1]) in heads:
            values = permute(values, heads[projection])
        add(
            writer,
            f"{gguf_stem(stem, LLAMA_TOP, LLAMA_NAMES | ALONE)}.{leaf}",
            values.squeeze(),
            F32,
        )
    return finished(writer, path)


def add_stack(writer: gguf.GGUFWriter, layer: str, kind: str, values: np.ndarray) -> None:
    """[experts, out, in]"""
    if kind == "down_proj":
        writer.add_tensor(f"{layer}.ffn_down_exps.weight", values)
        return
    gate, up = np.split(values, 2, axis=1)
    writer.add_tensor(f"{layer}.ffn_gate_exps.weight", np.ascontiguousarray(gate))
    writer.add_tensor(f"{layer}.ffn_up_exps.weight", np.ascontiguousarray(up))


def add_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_expert_count(getattr(config, "num_local_experts", None) or config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if hasattr(config, "shared_expert_intermediate_size"):
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    if config.model_type == "granitemoe":
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_logit_scale(config.logits_scaling)


NARROW = {"head_dim": 8}
FEW = {"num_experts": 6, "num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 6, "num_experts_per_tok": 2}
qwen3 = partial(relative, "qwen3_moe", gguf=expert_gguf, moe_intermediate_size=36, **FEW)
qwen2 = partial(
    relative, "qwen2_moe", gguf=expert_gguf, moe_intermediate_size=36, **FEW, **NARROW,
    shared_expert_intermediate_size=60,
)  # fmt: skip
mixtral = partial(relative, "mixtral", gguf=expert_gguf, **LOCAL)
olmoe = partial(relative, "olmoe", gguf=expert_gguf, pad_token_id=None, **FEW, **NARROW)
granite = partial(relative, "granitemoe", gguf=expert_gguf, **LOCAL, **NARROW)
EXPERTS: dict[str, Case] = {
    "qwen3_moe": qwen3(norm_topk_prob=True),
    "qwen3_moe-dense-among": qwen3(gguf=None, mlp_only_layers=[0], attention_bias=True),
    "qwen3_moe-every-second": qwen3(gguf=None, decoder_sparse_step=2, num_hidden_layers=4),
    "qwen3_moe-window": qwen3(
        gguf=None, norm_topk_prob=True, use_sliding_window=True, sliding_window=7
    ),
    "qwen2_moe": qwen2(),
    "qwen2_moe-renormalized": qwen2(gguf=None, norm_topk_prob=True, qkv_bias=False),
    "mixtral": mixtral(),
    "mixtral-window": mixtral(gguf=None, sliding_window=7),
    "olmoe": olmoe(),
    "olmoe-renormalized": olmoe(gguf=None, norm_topk_prob=True),
    "granitemoe": granite(
        embedding_multiplier=12.0,
        residual_multiplier=0.25,
        attention_multiplier=0.125,
        logits_scaling=2.0,
    ),
}
