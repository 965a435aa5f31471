"""What a reader of an architecture is: two ways to read its settings, two tables of its names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.reader import GGUFFile


def no_config(fields: Fields, file: GGUFFile, vocab_size: int) -> ModelConfig:  # noqa: ARG001
    raise AssertionError("no GGUF file has this architecture's name")


def no_names(config: ModelConfig) -> NameTable:  # noqa: ARG001
    raise AssertionError("no GGUF file has this architecture's name")


def no_vectors(file: GGUFFile, config: ModelConfig) -> Iterator[tuple[str, Any]]:  # noqa: ARG001
    """What a file keeps among its metadata and a model among its parameters: for most, nothing."""
    return iter(())


@dataclass(frozen=True, slots=True)
class GuessingNames:
    """What files call the tensors of a head that guesses one more token (MTP).

    `layer`: before the names of its only layer, with `{n}` for the number of the model's layers;
    what is behind it has a layer's usual names, which have `first` before them in a model.
    `others`: all else that it has of its own, from the beginning or behind `layer`. Embeddings and
    what makes logits are the model's, and the last norm where it has none."""

    layer: str
    others: Mapping[str, TensorTarget]
    first: str = "layers.0."


@dataclass(frozen=True, slots=True)
class Architecture:
    """A setting that would change what is computed, and is not obeyed, must be refused by name."""

    models: str  # whose, in people's words
    model_types: tuple[str, ...]  # `model_type` in config.json
    gguf_architectures: tuple[str, ...]  # `general.architecture`; none: no such file is read
    huggingface_config: Callable[[Fields], ModelConfig]
    huggingface_names: Callable[[ModelConfig], NameTable]
    gguf_config: Callable[[Fields, GGUFFile, int], ModelConfig] = no_config  # last: vocab_size
    gguf_names: Callable[[ModelConfig], NameTable] = no_names
    # More names in config.json, of classes that transformers does not have and whose form is one
    # of the above.
    other_types: tuple[str, ...] = ()
    # Its added tokens swallow the white space behind them, which no GGUF file says.
    tokens_swallow_space: bool = False
    # Of the head behind the last layer, in files beside a config.json; None: it has none. In GGUF
    # files all are called alike.
    guessing_names: GuessingNames | None = None
    gguf_vectors: Callable[[GGUFFile, ModelConfig], Iterator[tuple[str, Any]]] = no_vectors
