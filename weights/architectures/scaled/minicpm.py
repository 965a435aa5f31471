"""MiniCPM 1 and 2: a Granite by other names. Its authors' code comes with its checkpoints; none is
run, since what it computes is known."""

import math

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.limits import MAX_HIDDEN
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.scaled.granite import scaled
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
    is_tied=True,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    fields.refuse("num_experts", 0)  # these are of later models
    fields.refuse("sparse_config")
    config = llama_family.huggingface_config(fields, "minicpm", DEFAULTS)
    base = fields.integer("dim_model_base", 1, high=MAX_HIDDEN)
    return scaled(
        config,
        embedding=fields.positive("scale_emb", 1.0),
        scores=config.head_dim**-0.5,
        residual=fields.positive("scale_depth", 1.0) / math.sqrt(config.num_hidden_layers),
        logits=config.hidden_size / base,
    )


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "minicpm")
    return scaled(
        config,
        embedding=fields.positive("embedding_scale", 12.0),  # what llama.cpp takes for old files
        scores=config.head_dim**-0.5,
        residual=fields.positive("residual_scale", 1.4 / math.sqrt(config.num_hidden_layers)),
        logits=fields.positive("logit_scale", config.hidden_size / 256),
    )


MINICPM = Architecture(
    models="MiniCPM 1 and 2",
    model_types=(),
    other_types=("minicpm",),
    gguf_architectures=("minicpm",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,
)
