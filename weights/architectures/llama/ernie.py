"""ERNIE 4.5, the dense ones: Llamas that turn neighbouring channels, with one switch for biases."""

from dataclasses import replace

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=103424,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=18,
    num_heads=16,
    num_kv_heads=2,
    max_position_embeddings=131072,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=500000.0,
    is_tied=True,
)


def huggingface_config(fields: Fields) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias"):
        fields.refuse(key, False)  # `use_bias` is this class's
    head_dim = None if fields.is_null("head_dim") else DEFAULTS.head_dim
    defaults = replace(DEFAULTS, head_dim=head_dim)
    config = llama_family.huggingface_config(fields, "ernie4_5", defaults)
    bias = fields.boolean("use_bias", False)
    return replace(config, qkv_bias=bias, attention_output_bias=bias, mlp_bias=bias)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    return llama_family.gguf_config(fields, file, vocab_size, "ernie4_5")


ERNIE4_5 = Architecture(
    models="ERNIE 4.5 (dense)",
    model_types=("ernie4_5",),
    gguf_architectures=("ernie4_5",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.interleaved_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,  # its own order of rows is what Llama's become
)
