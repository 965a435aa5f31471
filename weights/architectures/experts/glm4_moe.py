"""GLM-4.5 to 4.7: half of each head is turned, the first layers are dense, and a sigmoid router
that chooses with a bias and within groups, as DeepSeek V3's.

A layer behind the last guesses one more token (MTP); it is not read.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import MAX_GROUPS, Scoring
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    BESIDE,
    CHOICE_BIAS,
    GGUF_BESIDE,
    GGUF_EXPERTS,
    GGUF_SIGMOID,
    ONE_BY_ONE,
    chosen,
    either_count,
    gguf_experts,
    size,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.llama.llama_names import GGUF_HEAD_NORMS, HEAD_NORMS
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=151552,
    hidden_size=4096,
    intermediate_size=10944,
    num_hidden_layers=46,
    num_heads=96,
    num_kv_heads=8,
    max_position_embeddings=131072,
    norm_eps=1e-5,
    rotary_fraction=0.5,
)
NAMES = {
    **ONE_BY_ONE,
    **{f"mlp.shared_experts.{name}.weight": target for name, target in BESIDE.items()},
    "mlp.gate.e_score_correction_bias": CHOICE_BIAS,
}
GGUF_NAMES = {
    **GGUF_EXPERTS,
    **GGUF_BESIDE,
    "exp_probs_b.bias": CHOICE_BIAS,
    "post_attention_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight"),
}
MAX_SHARED = 64


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = llama_family.huggingface_config(fields, "glm4_moe", DEFAULTS)
    for key in ("num_nextn_predict_layers", "num_mtp_layers"):
        fields.integer(key, 0, low=0, high=1)
    names = ("n_routed_experts", "num_local_experts")
    num_experts = either_count(fields, 128, config, names)
    width = size(fields, "moe_intermediate_size", 1408)
    num_groups = fields.integer("n_group", 1, high=MAX_GROUPS)
    spec = spec_of(
        fields,
        "n_group",
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 8, num_experts),
        intermediate_size=width,
        scoring=Scoring.SIGMOID,
        is_renormalized=fields.boolean("norm_topk_prob", True),
        scale=fields.positive("routed_scaling_factor", 1.0),
        choice_bias=True,
        num_groups=num_groups,
        num_chosen_groups=fields.integer("topk_group", 1, high=num_groups),
        shared_size=width * fields.integer("n_shared_experts", 1, low=0, high=MAX_SHARED),
    )
    num_dense = fields.integer("first_k_dense_replace", 1, low=0, high=MAX_LAYERS)
    return replace(
        config,
        attention_output_bias=False,
        qk_norm=fields.boolean("use_qk_norm", False),
        experts=spec,
        dense_layers=first_layers(num_dense, config),
    )


def first_layers(num_dense: int, config: ModelConfig) -> tuple[int, ...]:
    return tuple(range(min(num_dense, config.num_hidden_layers)))


def huggingface_names(config: ModelConfig) -> NameTable:
    table = llama_names.huggingface_names(config, HEAD_NORMS)
    return replace(with_experts(table, config, NAMES), ignored_layers=1)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "glm4_moe", is_partly_rotary=True, has_experts=True
    )
    fields.refuse("expert_gating_func", GGUF_SIGMOID)
    num_guessing = fields.integer("nextn_predict_layers", 0, low=0, high=1)
    if num_guessing >= config.num_hidden_layers:
        raise fields.error("nextn_predict_layers", "must be fewer than all layers.")
    config = replace(config, num_hidden_layers=config.num_hidden_layers - num_guessing)
    width = size(fields, "expert_feed_forward_length", 0)
    num_groups = fields.integer("expert_group_count", 1, high=MAX_GROUPS)
    spec = gguf_experts(
        fields,
        config,
        intermediate_size=width,
        scoring=Scoring.SIGMOID,
        is_renormalized=fields.boolean("expert_weights_norm", False),
        scale=fields.positive("expert_weights_scale", 1.0),
        choice_bias=True,
        num_groups=num_groups,
        num_chosen_groups=fields.integer("expert_group_used_count", 1, high=num_groups),
        shared_size=width * fields.integer("expert_shared_count", 0, low=0, high=MAX_SHARED),
    )
    num_dense = fields.integer("leading_dense_block_count", 0, low=0, high=MAX_LAYERS)
    return replace(
        config,
        attention_output_bias=False,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
        experts=spec,
        dense_layers=first_layers(num_dense, config),
    )


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.gguf_names(config, GGUF_HEAD_NORMS)
    return replace(with_experts(table, config, GGUF_NAMES), ignored_layers=1)


GLM4_MOE = Architecture(
    models="GLM-4.5 to 4.7 and Air",
    model_types=("glm4_moe",),
    gguf_architectures=("glm4moe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
