"""DeepSeek V2, V2-Lite, V3, V3.1 and R1, and Kimi K2, whose class is V3's: latents in place of keys
and values, the first layers dense, experts in groups.

V2's router takes the best by softmax, of all or of the groups whose best is best. Layers behind the
last guess more tokens (MTP): the first is read by `weights/architectures/common/guessing_head.py`.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.experts_spec import MAX_GROUPS, ExpertsSpec, Scoring
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import (
    GGUF_SIGMOID,
    chosen,
    either_count,
    size,
    spec_of,
    with_experts,
)
from thirdeye.weights.architectures.common.grouped_experts import (
    GGUF_NAMES,
    MAX_SHARED,
    WITH_BESIDE,
    WITH_CHOICE_BIAS,
    GroupedDefaults,
    gguf_grouped_experts,
    grouped_experts,
    with_dense_first,
)
from thirdeye.weights.architectures.common.guessing import BEHIND_THE_LAST
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.latent import latent_family, latent_gguf, latent_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

V2_DEFAULTS = Defaults(
    vocab_size=102400,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
)
V3_DEFAULTS = Defaults(
    vocab_size=129280,
    hidden_size=7168,
    intermediate_size=18432,
    num_hidden_layers=61,
    num_heads=128,
    max_position_embeddings=4096,
)
V3_EXPERTS = GroupedDefaults(
    num_experts=256,
    num_chosen=8,
    intermediate_size=2048,
    scale=2.5,
    num_groups=8,
    num_chosen_groups=4,
)
MAX_GUESSING = 8  # layers
GGUF_SOFTMAX = 1  # of llama.cpp's numbers for what becomes of scores


def v3_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    fields.refuse("scoring_func", "sigmoid")
    fields.refuse("topk_method", "noaux_tc")
    fields.refuse("moe_layer_freq", 1)
    for key in ("num_nextn_predict_layers", "num_mtp_layers"):
        fields.integer(key, 1, low=0, high=MAX_GUESSING)
    spec = latent_family.huggingface_latents(fields)
    config = latent_family.huggingface_config(fields, "deepseek_v3", V3_DEFAULTS, spec)
    experts = grouped_experts(fields, config, V3_EXPERTS)
    return with_dense_first(fields, config, "first_k_dense_replace", 3, experts)


def v3_names(config: ModelConfig) -> NameTable:
    table = with_experts(latent_names.huggingface_names(config), config, WITH_CHOICE_BIAS)
    return replace(table, ignored_layers=MAX_GUESSING)


def v2_config(fields: Fields) -> ModelConfig:
    fields.refuse("scoring_func", "softmax")
    fields.refuse("moe_layer_freq", 1)
    fields.refuse("norm_topk_prob", False)  # libraries differ in whether they obey it
    spec = latent_family.huggingface_latents(fields)
    config = latent_family.huggingface_config(fields, "deepseek_v2", V2_DEFAULTS, spec)
    experts = v2_experts(fields, config)
    return with_dense_first(fields, config, "first_k_dense_replace", 0, experts)


def v2_experts(fields: Fields, config: ModelConfig) -> ExpertsSpec:
    num_experts = either_count(fields, 64, config, ("n_routed_experts", "num_experts"))
    width = size(fields, "moe_intermediate_size", 1407)
    method = fields.text("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise fields.error(
            "topk_method",
            f"'{method:.40}' is not supported; supported are greedy, group_limited_greedy.",
        )
    has_groups = method == "group_limited_greedy"
    num_groups = fields.integer("n_group", 1, high=MAX_GROUPS)
    num_chosen_groups = fields.integer("topk_group", 1, high=num_groups)
    return spec_of(
        fields,
        "n_group",
        num_experts=num_experts,
        num_chosen=chosen(fields, "num_experts_per_tok", 1, num_experts),
        intermediate_size=width,
        scoring=Scoring.SOFTMAX,
        scale=fields.positive("routed_scaling_factor", 1.0),
        num_groups=num_groups if has_groups else 1,
        num_chosen_groups=num_chosen_groups if has_groups else 1,
        best_of_group=1,
        shared_size=width * fields.integer("n_shared_experts", 2, low=0, high=MAX_SHARED),
    )


def v2_names(config: ModelConfig) -> NameTable:
    return with_experts(latent_names.huggingface_names(config), config, WITH_BESIDE)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    """Of V2's kind or V3's: the file says what becomes of scores; old ones nothing, for V2's. Or of
    a model without experts."""
    if fields.raw("expert_count", 0) == 0:
        return latent_gguf.dense_config(fields, file, vocab_size)
    gating = fields.integer("expert_gating_func", GGUF_SOFTMAX, high=GGUF_SIGMOID)
    is_v3 = gating == GGUF_SIGMOID
    name = "deepseek_v3" if is_v3 else "deepseek_v2"
    config = latent_gguf.gguf_config(fields, file, vocab_size, name)
    spec = gguf_grouped_experts(fields, config)
    has_bias = any(name.endswith("exp_probs_b.bias") for name in file.tensors)
    if not is_v3:
        spec = replace(spec, scoring=Scoring.SOFTMAX, best_of_group=1)
    spec = replace(spec, choice_bias=has_bias)
    return with_dense_first(fields, config, "leading_dense_block_count", 0, spec)


def gguf_names(config: ModelConfig) -> NameTable:
    table = replace(latent_names.gguf_names(config), ignored_layers=MAX_GUESSING)
    return with_experts(table, config, GGUF_NAMES) if config.experts else table


DEEPSEEK_V2 = Architecture(
    models="DeepSeek V2 and V2-Lite",
    model_types=("deepseek_v2",),
    gguf_architectures=(),
    huggingface_config=v2_config,
    huggingface_names=v2_names,
)
DEEPSEEK_V3 = Architecture(
    models="DeepSeek V3, V3.1 and R1, Kimi K2",
    model_types=("deepseek_v3",),
    gguf_architectures=("deepseek2",),
    huggingface_config=v3_config,
    huggingface_names=v3_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    other_types=("kimi_k2",),
    guessing_names=BEHIND_THE_LAST,
)
