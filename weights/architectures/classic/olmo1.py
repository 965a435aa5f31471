"""OLMo 1: a Llama whose norms have no parameters, and that may cut queries, keys and values."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.classic.plain_family import read_clip
from thirdeye.weights.architectures.common.name_table import NameTable, rotate_half_rows
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=50304,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
)
EPS = 1e-5  # no setting of its class


def _unweighted(config: ModelConfig, clip: float | None) -> ModelConfig:
    return replace(
        config,
        norm=Norm.LAYER_NORM,
        norm_eps=EPS,
        norm_weight=False,
        norm_bias=False,
        clip_qkv=clip,
    )


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("rms_norm_eps")
    fields.refuse("mlp_bias", False)
    config = llama_family.huggingface_config(fields, "olmo", DEFAULTS)
    return _unweighted(config, read_clip(fields, "clip_qkv"))


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "olmo", norm=Norm.LAYER_NORM)
    return _unweighted(config, read_clip(fields, "attention.clamp_kqv"))


def gguf_names(config: ModelConfig) -> NameTable:
    return llama_names.gguf_names(
        config,
        reorder_query=rotate_half_rows(config.num_heads),
        reorder_key=rotate_half_rows(config.num_kv_heads),
    )


OLMO1 = Architecture(
    models="OLMo 1",
    model_types=("olmo",),
    gguf_architectures=("olmo",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
