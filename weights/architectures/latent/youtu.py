"""Youtu-LLM: DeepSeek V3's attention in a dense model."""

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.latent import latent_family, latent_names
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields

DEFAULTS = Defaults(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=32,
    num_heads=16,
    max_position_embeddings=131072,
    is_tied=True,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    spec = latent_family.huggingface_latents(fields)
    return latent_family.huggingface_config(fields, "youtu", DEFAULTS, spec)


YOUTU = Architecture(
    models="Youtu-LLM",
    model_types=("youtu",),
    gguf_architectures=(),
    huggingface_config=huggingface_config,
    huggingface_names=latent_names.huggingface_names,
)
