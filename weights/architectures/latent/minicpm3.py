"""MiniCPM 3: DeepSeek V2's attention in a dense model that scales as MiniCPM 1 does, and turns
halves. Its GGUF file does not say by how much it scales."""

import math
from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.limits import MAX_HEAD_DIM, MAX_HIDDEN
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.latent import latent_family, latent_names
from thirdeye.weights.architectures.latent.latent_family import LatentDefaults, score_scale
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=73448,
    hidden_size=2560,
    intermediate_size=6400,
    num_hidden_layers=62,
    num_heads=40,
    num_kv_heads=40,
    max_position_embeddings=32768,
    norm_eps=1e-5,
    is_tied=True,
)
EMBEDDINGS, DEPTH, BASE = 12.0, 1.4, 256  # what the class and llama.cpp take


def huggingface_config(fields: Fields) -> ModelConfig:
    hidden = fields.integer("hidden_size", DEFAULTS.hidden_size, high=MAX_HIDDEN)
    heads = fields.integer("num_attention_heads", DEFAULTS.num_heads, high=MAX_HIDDEN)
    own = LatentDefaults(256, 32, 64, hidden // heads, 768)
    spec = latent_family.huggingface_latents(fields, own)
    config = latent_family.huggingface_config(fields, "minicpm3", DEFAULTS, spec)
    has_depth, has_base = (not fields.is_null(key) for key in ("scale_depth", "dim_model_base"))
    return _scaled(
        config,
        embeddings=fields.positive("scale_emb", EMBEDDINGS),
        depth=fields.positive("scale_depth", DEPTH)
        if has_depth
        else math.sqrt(config.num_hidden_layers),
        base=fields.integer("dim_model_base", BASE, high=MAX_HIDDEN)
        if has_base
        else config.hidden_size,
    )


def _scaled(config: ModelConfig, *, embeddings: float, depth: float, base: int) -> ModelConfig:
    return replace(
        config,
        embedding_scale=embeddings,
        residual_scale=depth / math.sqrt(config.num_hidden_layers),
        logit_scale=base / config.hidden_size,
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    own = latent_names.attention_names(config, latent_names.HUGGINGFACE, turns_neighbours=False)
    return llama_names.huggingface_names(config, own)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    rope_size = fields.integer("rope.dimension_count", high=MAX_HEAD_DIM)
    config = llama_family.gguf_config(fields, file, vocab_size, "minicpm3", head_dim=rope_size)
    head_size = fields.integer("attention.key_length", low=rope_size + 1, high=MAX_HEAD_DIM)
    value_size = config.hidden_size // config.num_heads  # what llama.cpp takes, too
    spec = LatentSpec(
        size=fields.integer("attention.kv_lora_rank", high=MAX_HIDDEN),
        rope_size=rope_size,
        key_size=head_size - rope_size,
        value_size=fields.integer("attention.value_length", value_size, high=MAX_HEAD_DIM),
        query_size=fields.integer("attention.q_lora_rank", high=MAX_HIDDEN),
    )
    if config.num_kv_heads != config.num_heads:
        raise fields.error(
            "attention.head_count_kv", f"must be {config.num_heads}, got {config.num_kv_heads}."
        )
    config = latent_family.with_latents(config, spec, score_scale(spec))
    return _scaled(config, embeddings=EMBEDDINGS, depth=DEPTH, base=BASE)


def gguf_names(config: ModelConfig) -> NameTable:
    own = latent_names.attention_names(config, latent_names.GGUF, turns_neighbours=False)
    return llama_names.gguf_names(config, own)


MINICPM3 = Architecture(
    models="MiniCPM 3",
    model_types=("minicpm3",),
    gguf_architectures=("minicpm3",),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
    gguf_config=gguf_config,
    gguf_names=gguf_names,
)
