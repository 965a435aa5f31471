"""What a reader of an architecture is: two ways to read its settings, two tables of its names."""

from collections.abc import Callable
from dataclasses import dataclass

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.name_table import NameTable
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


@dataclass(frozen=True, slots=True)
class Architecture:
    """A setting that would change what is computed, and is not obeyed, must be refused by name."""

    model_types: tuple[str, ...]  # `model_type` in config.json
    gguf_architectures: tuple[str, ...]  # `general.architecture`
    huggingface_config: Callable[[Fields], ModelConfig]
    huggingface_names: Callable[[ModelConfig], NameTable]
    gguf_config: Callable[[Fields, GGUFFile, int], ModelConfig]  # the last: vocab_size
    gguf_names: Callable[[ModelConfig], NameTable]
