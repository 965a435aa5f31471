"""Settings changed one by one, to values that a model computes something else with.

A change is what config.json then says; `None` as a whole value takes the setting out, for files
that are older than it. Both sides read the same file.
"""

from typing import Any

GONE: Any = object()  # not in the file
Change = dict[str, Any]

BASE = {"rope_theta": 1e4}
STRETCHED = {"factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
FACTORS = {2: [1.0, 2.5], 4: [1.0, 1.5, 2.0, 4.0], 8: [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0]}
ROPES = [
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0, "alpha": 50.0},
    {"rope_type": "llama3", **STRETCHED, **LLAMA3},
    {"rope_type": "yarn", **STRETCHED},
    {"rope_type": "yarn", **STRETCHED, "attention_factor": 0.7},
    {"rope_type": "yarn", **STRETCHED, "mscale": 0.7, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", **STRETCHED, "mscale": 0.7},
    {"rope_type": "yarn", **STRETCHED, "mscale": 0.7, "mscale_all_dim": 0.0},
    {"rope_type": "yarn", **STRETCHED, "beta_fast": 4.0, "beta_slow": 2.0, "truncate": False},
    {"rope_type": "yarn", **STRETCHED, "llama_4_scaling_beta": 0.3},
    *({"rope_type": "longrope", "short_factor": f, "long_factor": f[::-1], **STRETCHED}
      for f in FACTORS.values()),
    {"rope_type": "proportional", "partial_rotary_factor": 0.5},
]  # fmt: skip
OLD_ROPES = [
    {"type": "linear", "factor": 2.0},
    {"rope_type": "yarn", **STRETCHED},
    {"rope_type": "llama3", **STRETCHED, **LLAMA3},
    {"type": "dynamic", "factor": 1.0, "alpha": 50.0},
]
INFINITE = {"__float__": "Infinity"}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
VALUES: dict[str, list[Any]] = {
    "head_dim": [8, 16, 24, GONE],
    "hidden_act": ["gelu", "gelu_python", "gelu_new", "relu", "relu2", "silu", "quick_gelu"],
    "hidden_activation": ["gelu", "silu", None],
    "activation_function": ["gelu", "relu", "silu"],
    "activation": ["gelu", "silu"],
    "intermediate_size": [64], "n_inner": [64, None], "ffn_dim": [64], "ffn_hidden_size": [64],
    "max_position_embeddings": [64],
    "num_attention_heads": [3, 2, 12],
    "num_key_value_heads": [1, 3, 6, GONE],
    "num_kv_heads": [1, 3],
    "vocab_size": [101],
    "sliding_window": [5, None],
    "tie_word_embeddings": [True, False, GONE],
    "query_pre_attn_scalar": [64],
    "attn_logit_softcapping": [2.0, None],
    "final_logit_softcapping": [1.0, None],
    "no_rope_layers": [[1, 0, 1], GONE],
    "rotary_dim": [2, 8],
    "clip_qkv": [0.3],
    "word_embed_proj_dim": [24],
    "num_ln_in_parallel_attn": [1, 2],
    "llama_4_scaling_beta": [0.3],
    "use_sliding_window": [True, False],
    "num_experts_per_tok": [1, 3],
    "num_local_experts": [4, 0], "num_experts": [4],
    "moe_intermediate_size": [20], "shared_expert_intermediate_size": [20],
    "decoder_sparse_step": [2, 4],
    "mlp_only_layers": [[1], [0, 2], None],
    "mamba_d_ssm": [30, GONE, None], "mlp_multipliers": [[0.5, 2.0], None],
    "ssm_multipliers": [[2.0, 0.5, 0.4, 0.3, 0.2], None],
    "layers_block_type": [["mlp", "mamba", "attention", "moe", "mlp"], GONE],
    "mamba_num_heads": [2], "mamba_head_dim": [5], "n_groups": [1, 3], "ssm_state_size": [5],
    "conv_kernel": [2, GONE], "mlp_hidden_act": ["silu", "gelu", "relu"], "n_group": [1, 2, 3],
    "topk_group": [1, 4], "moe_latent_size": [24], "n_shared_experts": [2],
    "mamba_hidden_act": ["gelu"], "moe_shared_expert_intermediate_size": [20],
    "mamba_n_heads": [3, 12], "mamba_n_groups": [1, 3], "mamba_d_state": [5],
    "mamba_d_head": ["auto", 8], "mamba_d_conv": [2, GONE], "mamba_expand": [1],
    "position_embedding_type": ["rope", "nope", None], "shared_intermediate_size": [40],
    "time_step_limit": [[0.0, 0.5], [0.3, INFINITE], [0.0, INFINITE], GONE],
}  # fmt: skip
TOGETHER: list[Change] = [  # old forms, and what only counts beside something else
    {"rope_parameters": GONE},
    {"rope_parameters": GONE, "rope_theta": 500.0},
    {"rope_parameters": GONE, "rope_theta": 500.0, "partial_rotary_factor": 0.5},
    {"rope_parameters": GONE, "rope_theta": 500.0, "rotary_pct": 0.5},
    {"rope_parameters": GONE, "partial_rotary_factor": 0.25},
    {"rope_parameters": GONE, "rope_theta": 500.0, "rope_local_base_freq": 300.0},
    *({"rope_parameters": GONE, "rope_theta": 1e4, "rope_scaling": old} for old in OLD_ROPES),
    {"rope_scaling": OLD_ROPES[0]},
    {"layer_types": GONE},
    {"layer_types": GONE, "sliding_window_pattern": 2, "sliding_window": 5},
    {"layer_types": GONE, "no_rope_layers": GONE, "no_rope_layer_interval": 2},
    {"layer_types": GONE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    {"layer_types": MIXED, "sliding_window": 5},
    {"layer_types": MIXED, "sliding_window": 5, "use_sliding_window": True},
    {"layer_types": MIXED, "sliding_window": 5, "use_sliding_window": False},
    {"layer_types": ["mamba", "attention", "attention", "mamba"]},
    {"layer_types": GONE, "layers_block_type": ["mamba", "mamba", "attention", "mamba"]},
    {"layers_block_type": GONE, "hybrid_override_pattern": "M*E-M"},
    {"layers_block_type": GONE, "layer_types": ["mamba", "mlp", "attention", "moe"]},
    {"mamba_n_groups": 1, "mamba_d_conv": 2, "mamba_conv_bias": False},
    {"mamba_n_heads": 3, "mamba_d_head": 32, "mamba_n_groups": 1},
    {"mamba_n_heads": 12, "mamba_d_head": "auto"},
    {"is_causal": False},
    {"use_bidirectional_attention": True},
]  # fmt: skip


NOT_PROBED = {  # a class, its setting: why transformers' word is not taken
    ("falcon", "alibi"): "eager attention adds it twice; a case of its own holds it",
}


def changes(config: dict[str, Any]) -> list[Change]:
    """Every setting that the file has, and some that it need not have."""
    found: list[Change] = list(TOGETHER)
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        kept = {k: v for k, v in rope.items() if k in ("partial_rotary_factor", "rope_theta")}
        found += [{"rope_parameters": kept | new} for new in ROPES]
    elif isinstance(rope, dict):
        found += [{"rope_parameters": rope | {k: BASE | new}} for k in rope for new in ROPES]
    for key, value in config.items():
        if isinstance(value, dict) and not key.startswith("rope_"):
            inner = [{k: other} for k, v in value.items() for other in guesses(v)]
            found += [{key: value | other} for other in inner]
        others = VALUES.get(key) or guesses(value)
        found += [{key: other} for other in others if other != value]
    return found


def guesses(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    return [value * 1.7 + 0.01] if isinstance(value, float) else []


def changed(config: dict[str, Any], change: Change) -> dict[str, Any]:
    both = config | change
    return {key: value for key, value in both.items() if value is not GONE}


def shown(change: Change) -> str:
    return ", ".join(f"{k}: {'gone' if v is GONE else v}" for k, v in change.items())
