"""The architectures we can read, by the name that checkpoints give them."""

from collections.abc import Callable
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures import gpt2, llama
from thirdeye.weights.architectures.name_table import NameTable
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


@dataclass(frozen=True, slots=True)
class Architecture:
    huggingface_config: Callable[[Fields], ModelConfig]
    huggingface_names: Callable[[ModelConfig], NameTable]
    gguf_config: Callable[[Fields, GGUFFile, int], ModelConfig]
    gguf_names: Callable[[ModelConfig], NameTable]


ARCHITECTURES = {
    "gpt2": Architecture(
        gpt2.huggingface_config, gpt2.huggingface_names, gpt2.gguf_config, gpt2.gguf_names
    ),
    "llama": Architecture(
        llama.huggingface_config, llama.huggingface_names, llama.gguf_config, llama.gguf_names
    ),
}


def find_architecture(fields: Fields, key: str) -> Architecture:
    """The architecture named under `key`; Hugging Face and GGUF agree on the names."""
    name = fields.text(key)
    if name not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise fields.error(key, f"'{name:.60}' is not supported; supported are {supported}.")
    return ARCHITECTURES[name]
