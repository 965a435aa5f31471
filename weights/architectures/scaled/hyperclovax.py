"""HyperCLOVA X: a Granite that multiplies its logits, and may norm what layers add to the stream.

What they add is scaled behind that norm, so its weight is.
"""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.scaled.granite import scaled
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
)
ADDED = "added"  # in `weight_scales`


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "hyperclovax", DEFAULTS)
    residual = fields.positive("residual_multiplier", 1.0)
    has_norm = fields.boolean("use_post_norm", True)
    config = scaled(
        config,
        embedding=fields.positive("embedding_multiplier", 1.0),
        scores=fields.positive("attention_multiplier", config.head_dim**-0.5),
        residual=1.0 if has_norm else residual,
        logits=1 / fields.positive("logits_scaling", 1.0),
    )
    return replace(
        config, post_norm=has_norm, weight_scales=((ADDED, residual),) if has_norm else ()
    )


def huggingface_names(config: ModelConfig) -> NameTable:
    if not config.post_norm:
        return llama_names.huggingface_names(config)
    scale = dict(config.weight_scales)[ADDED]
    norms = {
        "post_norm1.weight": TensorTarget("blocks.{i}.attention_post_norm.weight", scale=scale),
        "post_norm2.weight": TensorTarget("blocks.{i}.mlp_post_norm.weight", scale=scale),
    }
    return llama_names.huggingface_names(config, norms)


HYPERCLOVAX = Architecture(
    models="HyperCLOVA X SEED",
    model_types=("hyperclovax",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=huggingface_names,
)
