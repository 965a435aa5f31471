"""GLM-4.5 to 4.7: half of each head is turned, the first layers are dense, and a sigmoid router
that chooses with a bias and within groups, as DeepSeek V3's.

A layer behind the last guesses one more token (MTP): `common/guessing_head.py`.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.experts import GGUF_SIGMOID, with_experts
from thirdeye.weights.architectures.common.grouped_experts import (
    GGUF_NAMES,
    WITH_CHOICE_BIAS,
    GroupedDefaults,
    gguf_grouped_experts,
    grouped_experts,
    with_dense_first,
)
from thirdeye.weights.architectures.common.guessing import BEHIND_THE_LAST
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
EXPERTS = GroupedDefaults(num_experts=128, num_chosen=8, intermediate_size=1408)
BEHIND_ATTENTION = {"post_attention_norm.weight": TensorTarget("blocks.{i}.mlp_norm.weight")}


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: it never has one
    config = llama_family.huggingface_config(fields, "glm4_moe", DEFAULTS)
    for key in ("num_nextn_predict_layers", "num_mtp_layers"):
        fields.integer(key, 0, low=0, high=1)
    spec = grouped_experts(fields, config, EXPERTS)
    return replace(
        with_dense_first(fields, config, "first_k_dense_replace", 1, spec),
        attention_output_bias=False,
        qk_norm=fields.boolean("use_qk_norm", False),
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    table = llama_names.huggingface_names(config, HEAD_NORMS)
    return replace(with_experts(table, config, WITH_CHOICE_BIAS), ignored_layers=1)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "glm4_moe", is_partly_rotary=True, has_experts=True
    )
    fields.refuse("expert_gating_func", GGUF_SIGMOID)
    num_guessing = fields.integer("nextn_predict_layers", 0, low=0, high=1)
    if num_guessing >= config.num_hidden_layers:
        raise fields.error("nextn_predict_layers", "must be fewer than all layers.")
    config = replace(config, num_hidden_layers=config.num_hidden_layers - num_guessing)
    spec = gguf_grouped_experts(fields, config)
    return replace(
        with_dense_first(fields, config, "leading_dense_block_count", 0, spec),
        attention_output_bias=False,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
    )


def gguf_names(config: ModelConfig) -> NameTable:
    table = llama_names.gguf_names(config, GGUF_HEAD_NORMS)
    names = GGUF_NAMES | BEHIND_ATTENTION
    return replace(with_experts(table, config, names), ignored_layers=1)


GLM4_MOE = Architecture(
    models="GLM-4.5 to 4.7 and Air",
    model_types=("glm4_moe",),
    gguf_architectures=("glm4moe",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
    guessing_names=BEHIND_THE_LAST,
)
