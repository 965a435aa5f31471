"""Models with Mamba-2's layers, as tiny models of transformers' own classes."""

from dataclasses import replace
from functools import partial

from tests.architectures.cases import TIED, relative
from tests.architectures.states.mamba_gguf import granite_gguf

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
MAMBA = {
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
