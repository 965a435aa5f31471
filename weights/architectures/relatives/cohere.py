"""Command R and R7B: attention and MLP side by side, reading one LayerNorm without bias.

Neighbouring channels are turned; logits have a scale. In `cohere2` three layers of four see a
window, and the fourth, which sees all, is not turned.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.layer_types import (
    every_nth_full,
    gguf_layer_types,
    read_layer_types,
    read_window,
    with_turned_windows,
)
from thirdeye.weights.architectures.common.limits import MAX_LAYERS, MAX_POSITIONS
from thirdeye.weights.architectures.common.name_table import (
    NameTable,
    Reorder,
    TensorTarget,
    rotate_half_rows,
)
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=256000,
    hidden_size=8192,
    intermediate_size=22528,
    num_hidden_layers=40,
    num_heads=64,
    max_position_embeddings=8192,
    norm_eps=1e-5,
    norm_eps_key="layer_norm_eps",
    rope_theta=500000.0,
    is_tied=True,
)
COHERE2_DEFAULTS = replace(DEFAULTS, rope_theta=10000.0)


def _parallel(config: ModelConfig, logit_scale: float) -> ModelConfig:
    return replace(
        config,
        norm=Norm.LAYER_NORM,
        norm_bias=False,
        is_parallel=True,
        shares_norm=True,
        logit_scale=logit_scale,
    )


def _config(fields: Fields, name: str, defaults: Defaults) -> ModelConfig:
    fields.refuse("mlp_bias", False)  # no setting of this class: its MLP never has biases
    config = llama_family.huggingface_config(fields, name, defaults)
    return _parallel(config, fields.positive("logit_scale", 0.0625))


def cohere_config(fields: Fields) -> ModelConfig:
    config = _config(fields, "cohere", DEFAULTS)
    return replace(config, head_qk_norm=fields.boolean("use_qk_norm", False))


def cohere2_config(fields: Fields) -> ModelConfig:
    config = _config(fields, "cohere2", COHERE2_DEFAULTS)
    rule = fields.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
    kinds = read_layer_types(fields, every_nth_full(config.num_hidden_layers, rule))
    return with_turned_windows(config, kinds, read_window(fields, 4096))


def cohere_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "cohere", norm=Norm.LAYER_NORM)
    has_head_norms = "blk.0.attn_q_norm.weight" in file.tensors
    config = replace(config, head_qk_norm=has_head_norms)
    return _parallel(config, fields.positive("logit_scale"))


def _head_norms(config: ModelConfig, query: str, key: str) -> dict[str, TensorTarget]:
    """Of Command R+: each head's channels in the order that its rows have here."""

    def turned(num_heads: int) -> Reorder:
        undo = rotate_half_rows(num_heads)
        return lambda gains: undo(gains.reshape(-1)).reshape(gains.shape)

    norms = "blocks.{i}.attention.head_qk_norm"
    return {
        query: TensorTarget(f"{norms}.query_norm.weight", reorder=turned(config.num_heads)),
        key: TensorTarget(f"{norms}.key_norm.weight", reorder=turned(config.num_kv_heads)),
    }


def cohere_names(config: ModelConfig) -> NameTable:
    norms = _head_norms(config, "self_attn.q_norm.weight", "self_attn.k_norm.weight")
    return llama_names.interleaved_names(config, norms)


def cohere_gguf_names(config: ModelConfig) -> NameTable:
    norms = _head_norms(config, "attn_q_norm.weight", "attn_k_norm.weight")
    return llama_names.interleaved_gguf_names(config, norms)


def cohere2_gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(
        fields, file, vocab_size, "cohere2", norm=Norm.LAYER_NORM, has_windows=True
    )
    config = _parallel(config, fields.positive("logit_scale"))
    kinds = gguf_layer_types(fields, config.num_hidden_layers, 4)
    window = fields.integer("attention.sliding_window", high=MAX_POSITIONS)
    return with_turned_windows(config, kinds, window)


COHERE = Architecture(
    models="Command R, R+",
    model_types=("cohere",),
    gguf_architectures=("command-r",),
    huggingface_config=cohere_config,
    huggingface_names=cohere_names,
    gguf_config=cohere_gguf_config,
    gguf_names=cohere_gguf_names,
)
COHERE2 = Architecture(
    models="Command R7B, Command A",
    model_types=("cohere2",),
    gguf_architectures=("cohere2",),
    huggingface_config=cohere2_config,
    huggingface_names=llama_names.interleaved_names,
    gguf_config=cohere2_gguf_config,
    gguf_names=llama_names.interleaved_gguf_names,
)
