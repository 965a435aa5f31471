"""Llama's relatives as llama.cpp's converters write them, one row each: what differs from Llama's.

Of `conversion/*.py` in llama.cpp's source; which pairs of rows are turned there says
`llama_model_rope_type` in its `src/llama-model.cpp`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.weights.tiny import (
    GEMMA2_NAMES,
    LLAMA_NAMES,
    LLAMA_TOP,
    add,
    finished,
    gguf_stem,
    permute,
)

F32 = gguf.GGMLQuantizationType.F32
Settings = Callable[[gguf.GGUFWriter, Any], None]


@dataclass(frozen=True, slots=True)
class Form:
    """`settings` writes what the metadata says beside Llama's."""

    architecture: str
    is_permuted: bool = False  # rows of q and k are interleaved as Llama's
    names: Mapping[str, str] = field(default_factory=dict)  # inside a layer
    norm_offset: float = 0.0
    has_head_sizes: bool = True
    settings: Settings = lambda writer, config: None


def windowed(writer: gguf.GGUFWriter, config: Any) -> None:
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)
        kinds = [kind == "sliding_attention" for kind in config.layer_types]
        writer.add_sliding_window_pattern(kinds)
    if near := config.rope_parameters.get("sliding_attention"):
        writer.add_rope_freq_base_swa(near["rope_theta"])


def cohere2(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_sliding_window(config.sliding_window)
    writer.add_logit_scale(config.logit_scale)
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


def ministral3(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
    writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])


def stablelm(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_parallel_residual(config.use_parallel_residual)


HEAD_NORMS = {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"}
STABLELM = {"self_attn.q_layernorm": "attn_q_norm", "self_attn.k_layernorm": "attn_k_norm"}
FUSED = {"mlp.gate_up_proj": "ffn_up"}
GLM4 = {"post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm"}
FORMS = {
    "glm": Form("chatglm", names=FUSED, has_head_sizes=False),
    "glm4": Form("glm4", names=FUSED | GLM4),
    "exaone4": Form("exaone4", names=GEMMA2_NAMES, settings=windowed),
    "olmo3": Form("olmo2", names=GEMMA2_NAMES, settings=windowed),
    "cohere": Form("command-r", settings=lambda w, c: w.add_logit_scale(c.logit_scale)),
    "cohere2": Form("cohere2", settings=cohere2),
    "starcoder2": Form("starcoder2", names={"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}),
    "stablelm": Form("stablelm", names=STABLELM, settings=stablelm),
    "ministral3": Form("mistral3", is_permuted=True, settings=ministral3),
    "hunyuan_v1_dense": Form("hunyuan-dense", names=HEAD_NORMS),
    "nemotron": Form("nemotron", norm_offset=1.0),
    "jais2": Form("jais2"),
    "apertus": Form(
        "apertus",
        names={"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm"},
    ),
    "internlm3": Form("llama", is_permuted=True),
}
NUMBERS = ("alpha_p", "alpha_n", "beta", "eps")


def relative_gguf(model: PreTrainedModel, path: Path) -> Path:
    config = model.config
    form = FORMS[config.model_type]
    writer = gguf.GGUFWriter(path, form.architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if form.has_head_sizes:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    add_norm_eps(writer, config)
    add_rope(writer, config, head_dim)
    form.settings(writer, config)
    add_tensors(writer, model, form)
    return finished(writer, path)


def add_norm_eps(writer: gguf.GGUFWriter, config: Any) -> None:
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for key in ("layer_norm_eps", "norm_epsilon", "norm_eps"):
        if hasattr(config, key):
            writer.add_layer_norm_eps(getattr(config, key))


def add_rope(writer: gguf.GGUFWriter, config: Any, head_dim: int) -> None:
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    theta = rope["rope_theta"]
    if rope["rope_type"] == "dynamic":
        theta *= rope["alpha"] ** (head_dim / (head_dim - 2))
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_scaling_factor(1)
    writer.add_rope_freq_base(theta)
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))


def llama3_factors(rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """By how much each pair of channels turns slower."""
    speeds = rope["rope_theta"] ** -(np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] * speeds / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    with np.errstate(divide="ignore"):  # alike: nothing is mixed
        kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (kept + (1 - kept) / rope["factor"])).astype(np.float32)


def add_tensors(writer: gguf.GGUFWriter, model: PreTrainedModel, form: Form) -> None:
    config, names = model.config, LLAMA_NAMES | dict(form.names)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    numbers: dict[str, list[float]] = {}
    by_head: dict[str, list[np.ndarray]] = {}
    for name, tensor in model.state_dict().items():
        stem, leaf = name.rsplit(".", 1)
        projection = stem.rsplit(".", 1)[-1]
        if projection == "act_fn":
            numbers.setdefault(leaf, []).append(tensor.float().item())
        elif ".norms." in stem:
            by_head.setdefault(stem.partition(".norms.")[0], []).append(tensor.numpy())
        elif name != "lm_head.weight" or not config.tie_word_embeddings:
            values = tensor.numpy()
            if leaf == "weight" and stem.endswith("norm") and values.ndim == 1:
                values = values + np.float32(form.norm_offset)
            if form.is_permuted and projection in heads:
                values = permute(values, heads[projection])
            add(writer, f"{gguf_stem(stem, LLAMA_TOP, names)}.{leaf}", values, F32)
    for stem, gains in by_head.items():
        add(writer, f"{gguf_stem(stem, LLAMA_TOP, names)}.weight", np.stack(gains), F32)
    for leaf, series in numbers.items():
        writer.add_array(f"xielu.{leaf}", series)
