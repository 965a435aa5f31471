"""Models some of whose layers keep a state, as tiny models of transformers' own classes."""

from dataclasses import replace
from functools import partial
from typing import Any

from tests.architectures.cases import TIED, Case, relative
from tests.architectures.expert_cases import correction
from tests.architectures.states.state_gguf import lfm2_gguf, qwen_gguf
from thirdeye.model.config import ModelConfig
from thirdeye.model.state_spec import DeltaNetSpec

FULL, CONV, LINEAR = "full_attention", "conv", "linear_attention"
lfm2 = partial(
    relative, "lfm2", gguf=lfm2_gguf, head_dim=8, num_hidden_layers=4, block_multiple_of=16,
    layer_types=[CONV, CONV, FULL, CONV],
)  # fmt: skip
lfm2_moe = partial(
    relative, "lfm2_moe", gguf=lfm2_gguf, head_dim=8, num_hidden_layers=4, num_dense_layers=1,
    layer_types=[CONV, CONV, FULL, CONV], num_experts=6, num_experts_per_tok=2,
    moe_intermediate_size=36,
)  # fmt: skip
DELTA = {
    "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 12, "linear_value_head_dim": 20, "linear_conv_kernel_dim": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25},
}  # fmt: skip
FEW = {
    "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 36,
    "shared_expert_intermediate_size": 60,
}  # fmt: skip


def in_order(config: ModelConfig) -> ModelConfig:
    """What a GGUF file says, but for the order of heads, which is its own there."""
    assert isinstance(config.state, DeltaNetSpec)
    assert config.state.is_tiled
    return replace(config, state=replace(config.state, is_tiled=False))


def delta(model_type: str, *, gguf: Any = qwen_gguf, **changes: Any) -> Case:
    return relative(model_type, gguf=gguf, **(DELTA | changes))


def qwen3_5(model_type: str = "qwen3_5_text", **changes: Any) -> Case:
    return replace(delta(model_type, **changes), as_written=in_order)


STATES: dict[str, Case] = {
    "lfm2": lfm2(**TIED),
    "lfm2-biases": lfm2(gguf=None, conv_bias=True, conv_L_cache=4, layer_types=[FULL, CONV] * 2),
    "lfm2-unadjusted": lfm2(block_auto_adjust_ff_dim=False, conv_L_cache=5),
    "lfm2_moe": replace(lfm2_moe(**TIED), corrected=correction),
    "lfm2_moe-plain": lfm2_moe(
        gguf=None,
        use_expert_bias=False,
        norm_topk_prob=False,
        routed_scaling_factor=1.5,
        num_dense_layers=0,
        layer_types=[FULL, CONV] * 2,
    ),
    "qwen3_next": delta("qwen3_next", **FEW),
    "qwen3_next-dense-among": delta(
        "qwen3_next",
        gguf=None,
        **FEW,
        mlp_only_layers=[1],
        norm_topk_prob=False,
        attention_bias=True,
    ),
    "qwen3_next-without": delta("qwen3_next", gguf=None, num_experts=0, linear_num_key_heads=4),
    "qwen3_5_text": qwen3_5(),
    "qwen3_5_text-tied": delta(
        "qwen3_5_text", **TIED, linear_num_key_heads=4, linear_conv_kernel_dim=3
    ),
    "qwen3_5_text-attending": qwen3_5(layer_types=[FULL, LINEAR] * 2, attention_bias=True),
    "qwen3_5_moe_text": qwen3_5("qwen3_5_moe_text", **FEW),
}
