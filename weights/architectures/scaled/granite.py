"""Granite 3: a Llama with four scales: of embeddings, scores, what layers add, and logits."""

from dataclasses import replace

from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.limits import MAX_INTERMEDIATE
from thirdeye.weights.architectures.common.per_layer import shared_number
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.architectures.states.layers import KV_HEADS, stateless_layers
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=2048,
)


def scaled(
    config: ModelConfig, *, embedding: float, scores: float, residual: float, logits: float
) -> ModelConfig:
    """Logits are divided by theirs."""
    spec = AttentionSpec(rope=config.rope, scale=scores)
    return replace(
        config,
        embedding_scale=embedding,
        residual_scale=residual,
        logit_scale=1 / logits,
        attention=(spec,) * config.num_hidden_layers,
    )


def huggingface_config(fields: Fields) -> ModelConfig:
    return with_multipliers(fields, llama_family.huggingface_config(fields, "granite", DEFAULTS))


def with_multipliers(fields: Fields, config: ModelConfig) -> ModelConfig:
    return scaled(
        config,
        embedding=fields.positive("embedding_multiplier", 1.0),
        scores=fields.positive("attention_multiplier", 1.0),
        residual=fields.positive("residual_multiplier", 1.0),
        logits=fields.positive("logits_scaling", 1.0),
    )


def gguf_config(
    fields: Fields, file: GGUFFile, vocab_size: int, *, has_experts: bool = False
) -> ModelConfig:
    plain = _attending(fields) if hasattr(fields.raw(KV_HEADS, 0), "__len__") else fields
    config = llama_family.gguf_config(plain, file, vocab_size, "granite", has_experts=has_experts)
    return scaled(
        config,
        embedding=fields.positive("embedding_scale", 1.0),
        scores=fields.positive("attention.scale", config.head_dim**-0.5),
        residual=fields.positive("residual_scale", 1.0),
        logits=fields.positive("logit_scale", 1.0),
    )


def _attending(fields: Fields) -> Fields:
    """Of a Granite 4 all of whose layers attend: its file says the key-value heads of each."""
    plain, others = stateless_layers(fields)
    if others:
        raise fields.error(KV_HEADS, "must be above 0 in every layer.")
    width = shared_number(fields, "feed_forward_length", high=MAX_INTERMEDIATE)
    fields.refuse("expert_shared_feed_forward_length", width)
    fields.refuse("rope.scaling.finetuned", True)  # llama.cpp's sign for positions
    return plain


GRANITE = Architecture(
    models="Granite 3",
    model_types=("granite",),
    gguf_architectures=("granite",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,
)
