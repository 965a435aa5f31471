"""Qwen3.5 and Qwen3.6, the part that reads and writes text, dense and with experts.

Qwen3-Next's layers with projections of their own for everything. Positions turn by three numbers a
token, which are one and the same in text. With experts, the weights of the chosen always add up
to 1, and there is no dense layer.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    DOWN,
    GATE_UP,
    GGUF_WITH_GATED_BESIDE,
    WITH_GATED_BESIDE,
    chosen,
    count,
    gguf_experts,
    size,
    with_experts,
)
from thirdeye.weights.architectures.common.guessing import BESIDE_THE_MODEL
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.states import delta_net
from thirdeye.weights.architectures.states.qwen3_next import DEFAULTS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DENSE = replace(
    DEFAULTS,
    vocab_size=248320,
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=32,
    num_kv_heads=4,
)
SPARSE = replace(DEFAULTS, vocab_size=248320, intermediate_size=512, num_hidden_layers=40)
STACKED = {  # as the company that made them keeps experts
    "mlp.experts.gate_up_proj": GATE_UP,
    "mlp.experts.down_proj": DOWN,
}
GATES = {part: TensorTarget(f"{delta_net.ATTENTION}.gates.weight", part) for part in ("a", "b")}
GGUF_SECTIONS = "rope.dimension_sections"


def huggingface_config(fields: Fields) -> ModelConfig:
    return delta_net.huggingface_config(fields, "qwen3_5_text", DENSE)


def huggingface_moe_config(fields: Fields) -> ModelConfig:
    config = delta_net.huggingface_config(fields, "qwen3_5_moe_text", SPARSE)
    num_experts = count(fields, "num_experts", 256, config)
    spec = ExpertsSpec(
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 8, num_experts),
        intermediate_size=size(fields, "moe_intermediate_size", 512),
        is_renormalized=True,
        shared_size=size(fields, "shared_expert_intermediate_size", 512),
        shared_gate=True,
    )
    return replace(config, experts=spec, intermediate_size=spec.shared_size)  # no layer is dense


def huggingface_names(config: ModelConfig) -> NameTable:
    table = delta_net.huggingface_names(config)
    own = {f"in_proj_{part}.weight": target for part, target in GATES.items()} | {
        "in_proj_z.weight": TensorTarget(f"{delta_net.ATTENTION}.project.weight", "z"),
    }
    names = {f"layers.{{i}}.linear_attn.{name}": target for name, target in own.items()}
    merged = {"layers.{i}.linear_attn.in_proj_qkv.weight": delta_net.merged_qkv(config)}
    table = replace(table, names={**table.names, **names, **merged})
    return (
        with_experts(table, config, {**WITH_GATED_BESIDE, **STACKED}) if config.experts else table
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    fields.raw(GGUF_SECTIONS, None)  # by which of a token's three positions channels turn
    fields.refuse("expert_count", 0)
    return delta_net.gguf_config(fields, file, vocab_size, "qwen3_5_text", is_tiled=True)


def gguf_moe_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    fields.raw(GGUF_SECTIONS, None)
    config = delta_net.gguf_config(fields, file, vocab_size, "qwen3_5_moe_text", is_tiled=True)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=size(fields, "expert_feed_forward_length", 0),
        shared_size=size(fields, "expert_shared_feed_forward_length", 0),
        shared_gate=True,
        is_renormalized=True,
    )
    return replace(config, experts=spec)


def gguf_names(config: ModelConfig) -> NameTable:
    table = delta_net.gguf_names(config)
    own = {"blk.{i}.ssm_beta.weight": GATES["b"], "blk.{i}.ssm_alpha.weight": GATES["a"]}
    table = replace(table, names={**table.names, **own})
    return with_experts(table, config, GGUF_WITH_GATED_BESIDE) if config.experts else table


QWEN3_5 = Architecture(
    models="Qwen3.5 and Qwen3.6 (dense, their text)",
    model_types=("qwen3_5_text",),
    gguf_architectures=("qwen35",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    guessing_names=BESIDE_THE_MODEL,
)
QWEN3_5_MOE = Architecture(
    models="Qwen3.5 and Qwen3.6 with experts (their text)",
    model_types=("qwen3_5_moe_text",),
    gguf_architectures=("qwen35moe",),
    huggingface_config=huggingface_moe_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_moe_config,
    gguf_names=gguf_names,
    guessing_names=BESIDE_THE_MODEL,
)
