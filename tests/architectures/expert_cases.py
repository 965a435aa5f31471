"""Models with experts, as tiny models of transformers' own classes."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from tests.architectures.cases import LLAMA3, TIED, Case, relative
from tests.architectures.expert_gguf import expert_gguf

FULL, SLIDING = "full_attention", "sliding_attention"
NARROW = {"head_dim": 8}
FEW = {"num_experts": 6, "num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 6, "num_experts_per_tok": 2}
OSS_YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "truncate": False, "original_max_position_embeddings": 32,
}  # fmt: skip
GLM = {
    "moe_intermediate_size": 36, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 1,
    "routed_scaling_factor": 1.5, "use_qk_norm": True, "pad_token_id": None,
}  # fmt: skip
qwen3 = partial(relative, "qwen3_moe", gguf=expert_gguf, moe_intermediate_size=36, **FEW)
qwen2 = partial(
    relative, "qwen2_moe", gguf=expert_gguf, moe_intermediate_size=36, **FEW, **NARROW,
    shared_expert_intermediate_size=60,
)  # fmt: skip
mixtral = partial(relative, "mixtral", gguf=expert_gguf, **LOCAL)
olmoe = partial(relative, "olmoe", gguf=expert_gguf, pad_token_id=None, **FEW, **NARROW)
granite = partial(relative, "granitemoe", gguf=expert_gguf, **LOCAL, **NARROW)
ernie = partial(
    relative, "ernie4_5_moe", gguf=expert_gguf, **NARROW, moe_intermediate_size=20,
    moe_num_experts=6, moe_k=2,
)  # fmt: skip
gpt_oss = partial(
    relative, "gpt_oss", gguf=expert_gguf, **LOCAL, sliding_window=7, rope_parameters=OSS_YARN
)


LLAMA4 = {
    "intermediate_size": 40, "intermediate_size_mlp": 80, "num_local_experts": 6,
    "num_hidden_layers": 4, "attention_chunk_size": 7, "floor_scale": 5, "attn_scale": 0.5,
    "rope_parameters": LLAMA3, "pad_token_id": None,
}  # fmt: skip
# What the published models have in common, and a GGUF file does not say.
PUBLISHED = {
    "intermediate_size": 40, "intermediate_size_mlp": 80, "num_hidden_layers": 4,
    "pad_token_id": None, "gguf": expert_gguf,
}  # fmt: skip
SCOUT = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 16.0, "low_freq_factor": 1.0,
    "high_freq_factor": 1.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
llama4 = partial(relative, "llama4_text", gguf=None)


def glm(**changes: Any) -> Case:
    case = relative("glm4_moe", **({"gguf": expert_gguf} | GLM | changes))
    return replace(case, corrected=correction)


def correction(model: Any) -> None:
    """What decides with the scores and is no parameter: in real checkpoints it is never zero."""
    generator = torch.Generator().manual_seed(2)
    for name, buffer in model.named_buffers():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)


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
    "glm4_moe": glm(n_group=4, topk_group=2),
    "glm4_moe-plain": glm(
        attention_bias=True, use_qk_norm=False, norm_topk_prob=False, first_k_dense_replace=2
    ),
    "llama4_text": llama4(**LLAMA4, interleave_moe_layer_step=2),
    "llama4_text-plain": llama4(
        **(LLAMA4 | {"num_local_experts": 4, "num_hidden_layers": 3}),
        num_experts_per_tok=2,
        moe_layers=[0, 1, 2],
        no_rope_layers=[0, 1, 1],
        use_qk_norm=False,
        attn_temperature_tuning=False,
        attention_bias=True,
    ),
    "llama4_text-scout": llama4(**PUBLISHED, num_local_experts=4, rope_parameters=SCOUT),
    "llama4_text-maverick": llama4(
        **PUBLISHED,
        num_local_experts=128,
        interleave_moe_layer_step=2,
        use_qk_norm=False,
        hidden_size=24,
        head_dim=8,
    ),
    "ernie4_5_moe": ernie(**TIED),
    "ernie4_5_moe-between": ernie(
        gguf=None,
        use_bias=True,
        moe_layer_start_index=0,
        moe_layer_end_index=1,
        moe_num_shared_experts=0,
    ),
    "gpt_oss": gpt_oss(),
    "gpt_oss-unbiased": gpt_oss(gguf=None, attention_bias=False, layer_types=[FULL, FULL, SLIDING]),
}
