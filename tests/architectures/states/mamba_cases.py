"""Models with Mamba-2's layers, as tiny models of transformers' own classes."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.architectures.cases import TIED, Case, relative
from tests.architectures.expert_cases import correction
from tests.architectures.states.mamba_gguf import falcon_gguf, granite_gguf, nemotron_gguf
from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.states.falcon_h1 import scales
from thirdeye.weights.formats.fields import Fields

FULL, LINEAR = "full_attention", "linear_attention"
SCALES = {
    "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "attention_multiplier": 0.125,
    "logits_scaling": 2.0,
}  # fmt: skip
FEW = {"num_local_experts": 6, "num_experts_per_tok": 2, "shared_intermediate_size": 60}
granite = partial(
    relative, "granitemoehybrid", gguf=granite_gguf, head_dim=8, num_hidden_layers=4,
    layer_types=[LINEAR, FULL, LINEAR, LINEAR], mamba_n_heads=6, mamba_d_head=16, mamba_n_groups=2,
    mamba_d_state=12, mamba_chunk_size=16, num_local_experts=0, num_experts_per_tok=0,
    shared_intermediate_size=80, **SCALES,
)  # fmt: skip
MULTIPLIERS = {
    "embedding_multiplier": 5.0, "lm_head_multiplier": 0.4, "key_multiplier": 0.7,
    "attention_in_multiplier": 1.3, "attention_out_multiplier": 0.8, "ssm_in_multiplier": 1.2,
    "ssm_out_multiplier": 0.6, "ssm_multipliers": [0.9, 1.1, 0.7, 1.4, 0.8],
    "mlp_multipliers": [1.6, 0.7],
}  # fmt: skip
falcon = partial(
    relative, "falcon_h1", gguf=falcon_gguf, num_hidden_layers=2, mamba_d_ssm=60, mamba_n_heads=4,
    mamba_d_head=15, mamba_n_groups=2, mamba_d_state=12, mamba_chunk_size=16, **MULTIPLIERS,
)  # fmt: skip

SCALED = scales(Fields(Path("config.json"), MULTIPLIERS))


def multiplied(case: Case) -> Case:
    """Whose GGUF file has all multipliers in its weights."""

    def as_written(config: ModelConfig) -> ModelConfig:
        ours = {"embedding_scale": 5.0, "logit_scale": 0.4}
        return replace(config, **ours, weight_scales=SCALED)

    return replace(case, as_written=as_written)


DENSE = {"layers_block_type": [LINEAR, "mlp", LINEAR, FULL, "mlp"]}
SPARSE = {"layers_block_type": [LINEAR, "moe", LINEAR, FULL, "moe"]}
MIXED = {"layers_block_type": ["mlp", LINEAR, FULL, "moe", "moe", FULL]}


def nemotron(**changes: Any) -> Case:
    settings = {
        "mamba_num_heads": 6, "mamba_head_dim": 10, "n_groups": 2, "ssm_state_size": 12,
        "chunk_size": 16, "n_routed_experts": 8, "num_experts_per_tok": 3,
        "moe_intermediate_size": 36, "moe_shared_expert_intermediate_size": 52, "n_group": 4,
        "topk_group": 2, "routed_scaling_factor": 1.5,
    }  # fmt: skip
    case = relative("nemotron_h", **({"gguf": nemotron_gguf} | settings | changes))
    return replace(case, corrected=correction)


MAMBA = {
    "nemotron_h": nemotron(**SPARSE),
    "nemotron_h-dense": nemotron(**DENSE, use_conv_bias=False, conv_kernel=3),
    "nemotron_h-biases": nemotron(**DENSE, mlp_bias=True, use_bias=True),
    "nemotron_h-mixed": nemotron(gguf=None, **MIXED, norm_topk_prob=False, mlp_hidden_act="silu"),
    "falcon_h1": multiplied(falcon(mamba_rms_norm=True, mamba_norm_before_gate=False)),
    "falcon_h1-norm-first": falcon(gguf=None, mamba_rms_norm=True),
    "falcon_h1-no-norm": multiplied(falcon()),
    "falcon_h1-biases": falcon(
        gguf=None,
        attention_bias=True,
        mlp_bias=True,
        mamba_proj_bias=True,
        projectors_bias=True,
        mamba_conv_bias=False,
        mamba_d_ssm=None,
        mamba_d_head="auto",
    ),
    "granitemoehybrid": granite(**FEW),
    "granitemoehybrid-dense": granite(**TIED),
    "granitemoehybrid-rope": granite(
        position_embedding_type="rope", mamba_conv_bias=False, mamba_d_conv=3, attention_bias=True
    ),
    "granitemoehybrid-biases": replace(
        granite(mamba_proj_bias=True, mamba_n_groups=1, mamba_n_heads=3, mamba_d_head=32),
        is_shared=False,
    ),
    "granitemoehybrid-attending": granite(layer_types=[FULL] * 4, position_embedding_type="rope"),
    "granitemoehybrid-attending-experts": granite(gguf=None, **FEW, layer_types=[FULL] * 4),
}
