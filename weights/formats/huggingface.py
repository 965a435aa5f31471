"""A checkpoint in Hugging Face layout: a directory of config, tokenizer files and safetensors."""

import logging
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.architectures.common.guessing_head import GuessingHead, head_config
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.common.stored_shape import TensorShape
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.architectures.wrappers.text_part import text_part
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.fingerprint import fingerprint
from thirdeye.weights.formats.chat_templates import (
    DEFAULT,
    FILES,
    TOOL_USE,
    read_chat_templates,
)
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.huggingface_tokenizer import Ids, read_tokenizer, tokenizer_files
from thirdeye.weights.formats.quantized.gather_weights import Weights, gather_weights
from thirdeye.weights.formats.quantized.methods import read_method
from thirdeye.weights.formats.quantized.quantized_weight import QuantizedWeight
from thirdeye.weights.formats.quantized.unnamed_method import without_settings
from thirdeye.weights.formats.safetensors import ShardEntry, are_equal, list_tensors
from thirdeye.weights.formats.shards import check_index, find_shards
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling, of_huggingface
from thirdeye.weights.formats.trainers_names import without_trainers
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    *FILES,
)
HEAD, TABLE = "lm_head.weight", "embed_tokens.weight"  # a file's name, the model's
logger = logging.getLogger(__name__)
HUB_SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/[^/]+$")


class HuggingFaceCheckpoint:
    """Opening it reads config.json and headers; tokenizer and tensors are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = _name(path)
        self._directory = Directory(path)
        self._fields = self._directory.config()
        part = text_part(self._fields)
        text, self._unread = part.fields, part.unread
        self._text = text
        architecture = by_model_type(text)
        self._architecture, self._part = architecture, part
        self.architecture = text.text("model_type")
        self.config: ModelConfig = architecture.huggingface_config(text)
        self._names = part.names(architecture.huggingface_names(self.config))
        self._settings = self._directory.fields("tokenizer_config.json")
        templates = read_chat_templates(self._directory, self._settings)
        self.chat_template, self.tool_template = map(templates.get, (DEFAULT, TOOL_USE))
        self._table_alone: str | None = None
        self._shards = find_shards(self._directory)
        tensors = list_tensors(self._shards)
        check_index(self._directory, tensors)
        tensors = without_trainers(tensors)
        weights = gather_weights(tensors, read_method(self._directory, self._fields, text))
        self._table_alone = self._head_for_table(weights)
        if self.config.tie_word_embeddings and self._has_own_head(weights):
            self.config = replace(self.config, tie_word_embeddings=False)
            self._names = part.names(architecture.huggingface_names(self.config))
        self._all = weights
        self._weights = {
            name: weight for name, weight in weights.items() if self.targets(name) != []
        }
        for weight in self._weights.values():
            if isinstance(weight, ShardEntry):
                _check_dtype(weight, tensors)

    @property
    def fingerprint(self) -> str:
        names = (*DESCRIPTIONS, *tokenizer_files(self._directory))
        found = [self._directory.find(name) for name in names]
        contents = [b"" if path is None else path.read_bytes() for path in found]
        return fingerprint(contents, self._shards)

    def targets(self, name: str) -> list[TensorTarget] | None:
        if name.startswith(self._unread):
            return []
        if name == self._table_alone:
            return self._names.place(self._names.name_of(TABLE))
        return self._names.place(name)

    def _head_for_table(self, weights: Weights) -> str | None:
        """The head of a tied model, where it is the one that was kept: whoever saves a shared
        tensor once keeps it by the name that sorts first."""
        if not self.config.tie_word_embeddings or any(map(self._is_table, weights)):
            return None
        return next((name for name in weights if name.endswith(HEAD)), None)

    def _is_table(self, name: str) -> bool:
        places = self._names.place(name) or []
        return not name.startswith(self._unread) and any(at.name == TABLE for at in places)

    def _has_own_head(self, weights: Weights) -> bool:
        """Whether the head is said to be the embeddings, but the file has another one: then both
        are kept, as transformers does."""
        head = next((name for name in weights if name.endswith(HEAD)), None)
        tables = [name for name in weights if self._is_table(name)]
        if head is None or not tables or _are_equal(weights[head], weights[tables[0]]):
            return False
        logger.warning(
            "%s: 'tie_word_embeddings' is true, but '%s' is not '%s': both are used",
            self.path,
            head,
            tables[0],
        )
        return True

    def tensor_sizes(self) -> dict[str, int]:
        return {name: weight.num_bytes for name, weight in self._weights.items()}

    def tensor_shapes(self) -> dict[str, TensorShape]:
        return {name: _shape(weight) for name, weight in self._weights.items()}

    def tensor_formats(self) -> dict[str, int]:
        return Counter(
            weight.format if isinstance(weight, QuantizedWeight) else weight.dtype
            for weight in self._weights.values()
        )

    def tensors(self) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        return self._read_all(self._weights)

    def _read_all(self, names: Iterable[str]) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        for name in names:
            yield name, self._read(name)

    def _read(self, name: str) -> "Tensor | StoredTensor":
        weight = self._all[name]
        if isinstance(weight, QuantizedWeight) and (stored := weight.stored()) is not None:
            return stored
        is_transposed = any(target.is_transposed for target in self.targets(name) or [])
        if isinstance(weight, QuantizedWeight) and is_transposed and len(weight.shape) == 2:
            return weight.read().t()  # whatever layout was quantized is kept [out, in]
        return weight.read()

    def guessing_head(self) -> GuessingHead | None:
        names = self._architecture.guessing_names
        if names is None:
            return None
        config = head_config(self.config)
        head = GuessingHead(
            self.path,
            self.config,
            names,
            self._part.names(self._architecture.huggingface_names(config)),
            self.targets,
            {name: weight.num_bytes for name, weight in self._all.items()},
            {name: _shape(weight) for name, weight in self._all.items()},
            self._read_all,
        )
        if not head.is_there:
            return None
        for weight in map(self._all.__getitem__, head.tensor_sizes()):
            if isinstance(weight, ShardEntry):
                weight.check_dtype()
        return head

    def suggested_sampling(self) -> SuggestedSampling:
        return of_huggingface(
            self._directory.fields("generation_config.json"),
            self.config.max_position_embeddings,
            self.config.vocab_size,
        )

    def tokenizer(self, never_from_text: Container[str] = ()) -> Tokenizer:
        generation = self._directory.fields("generation_config.json")
        vocab_size = self.config.vocab_size
        eos, bos_ids = (  # said for the whole, or of the part, as transformers 5 saves it
            _token_ids(self._fields, key, vocab_size) or _token_ids(self._text, key, vocab_size)
            for key in ("eos_token_id", "bos_token_id")
        )
        if generation is not None:
            eos |= _token_ids(generation, "eos_token_id", vocab_size)
        ids = Ids(vocab_size, min(bos_ids, default=None), eos)
        return read_tokenizer(self._directory, self.architecture, ids, never_from_text)


def _shape(weight: ShardEntry | QuantizedWeight) -> TensorShape:
    return TensorShape(weight.shape, isinstance(weight, QuantizedWeight))


def _check_dtype(entry: ShardEntry, tensors: Mapping[str, ShardEntry]) -> None:
    try:
        entry.check_dtype()
    except ModelFormatError as error:
        more = without_settings(entry, tensors)
        raise (error.and_say(more) if more else error) from None


def _are_equal(one: ShardEntry | QuantizedWeight, other: ShardEntry | QuantizedWeight) -> bool:
    """Bit for bit; what is quantized is nothing else's equal."""
    return isinstance(one, ShardEntry) and isinstance(other, ShardEntry) and are_equal(one, other)


def _name(path: Path) -> str:
    """The hub's name of a snapshot, or the directory's."""
    if found := HUB_SNAPSHOT.search(path.resolve().as_posix()):
        return "/".join(found.groups())
    return path.resolve().name


def _token_ids(fields: Fields, key: str, vocab_size: int) -> frozenset[int]:
    """An id, a list of ids, or none."""
    value = fields.raw(key, [])
    ids = value if isinstance(value, list) else [value]
    if not all(type(token_id) is int and 0 <= token_id < vocab_size for token_id in ids):
        raise fields.error(
            key, f"must be token ids between 0 and {vocab_size - 1}, got {value!r:.60}."
        )
    return frozenset(ids)
