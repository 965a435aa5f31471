"""Arcee (AFM): a Llama with a plain MLP, `down(relu(up x)^2)`, with rows in Llama's GGUF order."""

from dataclasses import replace

from thirdeye.model.config import Activation, ModelConfig
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.llama import llama_family, llama_names
from thirdeye.weights.architectures.llama.llama import LLAMA
from thirdeye.weights.architectures.llama.llama_family import Defaults
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile

DEFAULTS = Defaults(
    vocab_size=32000,
    hidden_size=2560,
    intermediate_size=18432,
    num_hidden_layers=32,
    num_heads=32,
    max_position_embeddings=4096,
    norm_eps=1e-5,
    activation="relu2",
)


def huggingface_config(fields: Fields) -> ModelConfig:
    config = llama_family.huggingface_config(fields, "arcee", DEFAULTS)
    return replace(config, gated_mlp=False)


def gguf_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:
    config = llama_family.gguf_config(fields, file, vocab_size, "arcee")
    return replace(config, gated_mlp=False, activation=Activation.RELU2)


ARCEE = Architecture(
    models="Arcee AFM",
    model_types=("arcee",),
    gguf_architectures=("arcee",),
    huggingface_config=huggingface_config,
    huggingface_names=llama_names.huggingface_names,
    gguf_config=gguf_config,
    gguf_names=LLAMA.gguf_names,
)
