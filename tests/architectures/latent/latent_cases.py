"""Models with multi-head latent attention, as tiny models of transformers' own classes."""

from dataclasses import replace
from functools import partial
from typing import Any

from transformers import Mistral4Config, Mistral4ForCausalLM

from tests.architectures.cases import SIZES, TIED, Case, relative
from tests.architectures.expert_cases import correction
from tests.architectures.latent.latent_gguf import latent_gguf, minicpm3_gguf, old_latent_gguf

LATENT = {
    "num_key_value_heads": 6, "head_dim": 8, "kv_lora_rank": 24, "q_lora_rank": 20,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10,
}  # fmt: skip
EXPERTS = {
    "moe_intermediate_size": 36, "n_routed_experts": 8, "num_experts_per_tok": 3,
    "first_k_dense_replace": 1, "pad_token_id": None,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 16,
}  # fmt: skip
GROUPS = {"n_group": 4, "topk_group": 2}


def v2(**changes: Any) -> Case:
    return relative("deepseek_v2", **({"gguf": latent_gguf} | LATENT | EXPERTS | changes))


def v3(**changes: Any) -> Case:
    case = relative("deepseek_v3", **({"gguf": latent_gguf} | LATENT | EXPERTS | GROUPS | changes))
    return replace(case, corrected=correction)


def glm(**changes: Any) -> Case:
    case = relative("glm4_moe_lite", **({"gguf": None} | LATENT | EXPERTS | changes))
    return replace(case, corrected=correction)


def mistral4(**changes: Any) -> Case:
    """transformers has it as the text part of a model that also sees, and no name for it alone."""
    sizes = LATENT | EXPERTS | {"head_dim": 20, "first_k_dense_replace": 0}
    config = SIZES | sizes | changes
    return Case(lambda: Mistral4ForCausalLM(Mistral4Config(**config)), latent_gguf)


minicpm3 = partial(
    relative, "minicpm3", gguf=minicpm3_gguf, pad_token_id=None, **LATENT | {"v_head_dim": 8}
)
youtu = partial(relative, "youtu", gguf=latent_gguf, pad_token_id=None, **LATENT)
GROWING = YARN | {
    "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5,
    "partial_rotary_factor": 8 / 20,
}  # fmt: skip


LATENTS: dict[str, Case] = {
    "minicpm3": minicpm3(),
    "minicpm3-wide": minicpm3(
        gguf=None,
        q_lora_rank=None,
        v_head_dim=10,
        scale_emb=2.0,
        scale_depth=0.7,
        dim_model_base=32,
        attention_bias=True,
        mlp_bias=True,
        rope_parameters=YARN | {"original_max_position_embeddings": 16},
    ),
    "minicpm3-unscaled": minicpm3(gguf=None, scale_depth=None, dim_model_base=None, **TIED),
    "deepseek_v2": v2(q_lora_rank=None, rope_parameters=YARN),  # as V2-Lite
    "deepseek_v2-groups": v2(
        topk_method="group_limited_greedy", routed_scaling_factor=4.0, **GROUPS
    ),
    "deepseek_v2-biases": v2(gguf=None, attention_bias=True, mlp_bias=True, n_shared_experts=1),
    "deepseek_v3": v3(rope_parameters=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}),
    "deepseek_v3-plain": v3(  # as Kimi K2, but for its sizes
        gguf=old_latent_gguf, n_group=1, topk_group=1, attention_bias=True, norm_topk_prob=False
    ),
    "glm4_moe_lite": glm(mlp_layer_types=["dense", "sparse", "dense"]),
    "glm4_moe_lite-first": glm(gguf=latent_gguf, rope_parameters=YARN),
    "youtu": youtu(tie_word_embeddings=True),
    "mistral4": mistral4(rope_parameters=GROWING),
    "mistral4-groups": mistral4(rope_parameters=GROWING, norm_topk_prob=False, **GROUPS),
    "deepseek_v3-magnitudes": v3(
        gguf=None, rope_parameters=YARN | {"mscale": 0.5}, q_lora_rank=None
    ),
}
