"""A checkpoint in Hugging Face layout: a directory of config, tokenizer files and safetensors."""

import logging
import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.name_table import TensorTarget
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.fingerprint import fingerprint
from thirdeye.weights.formats import safetensors
from thirdeye.weights.formats.directory import Directory
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling, of_huggingface
from thirdeye.weights.tokenizers import tokenizer_json, tokenizer_model
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
WRAPPERS = ("gemma3", "mistral3")  # of a text model and others, of which the text's is served
OTHER_SENSES = tuple(
    prefix + part
    for prefix in ("", "model.")
    for part in ("vision_tower.", "multi_modal_projector.")
)
logger = logging.getLogger(__name__)
HUB_SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/[^/]+$")


class HuggingFaceCheckpoint:
    """Opening it reads config.json and headers; tokenizer and tensors are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = _name(path)
        self._directory = Directory(path)
        self._fields = self._directory.required_fields("config.json")
        self._fields.refuse("quantization_config")
        text = _text_part(self._fields)
        self._unread = () if text is self._fields else OTHER_SENSES
        architecture = by_model_type(text)
        self.config: ModelConfig = architecture.huggingface_config(text)
        self._names = architecture.huggingface_names(self.config)
        self._settings = self._directory.fields("tokenizer_config.json")
        self.chat_template = _chat_template(self._directory, self._settings)
        self._shards = safetensors.find_shards(self._directory)
        tensors = safetensors.list_tensors(self._shards)
        safetensors.check_index(self._directory, tensors)
        if self.config.tie_word_embeddings and self._has_own_head(tensors):
            self.config = replace(self.config, tie_word_embeddings=False)
            self._names = architecture.huggingface_names(self.config)
        self._tensors = {
            name: stored for name, stored in tensors.items() if self.targets(name) != []
        }
        safetensors.check_dtypes(self._tensors)

    @property
    def fingerprint(self) -> str:
        texts = [self._directory.text(name) or "" for name in DESCRIPTIONS]
        pieces = self._directory.find("tokenizer.model")
        binary = [] if pieces is None else [pieces.read_bytes()]
        return fingerprint([*(text.encode() for text in texts), *binary], self._shards)

    def targets(self, name: str) -> list[TensorTarget] | None:
        return [] if name.startswith(self._unread) else self._names.place(name)

    def _has_own_head(self, tensors: dict[str, safetensors.ShardEntry]) -> bool:
        """Whether the head is said to be the embeddings, but the file has another one: then both
        are kept, as transformers does."""
        head = next((name for name in tensors if name.endswith("lm_head.weight")), None)
        places = ((name, self.targets(name)) for name in tensors)
        tables = [name for name, at in places if at and at[0].name == "embed_tokens.weight"]
        if head is None or not tables or safetensors.are_equal(tensors, head, tables[0]):
            return False
        logger.warning(
            "%s: 'tie_word_embeddings' is true, but '%s' is not '%s': both are used",
            self.path,
            head,
            tables[0],
        )
        return True

    def tensor_sizes(self) -> dict[str, int]:
        return {name: stored.num_bytes for name, stored in self._tensors.items()}

    def tensor_formats(self) -> dict[str, int]:
        return Counter(stored.dtype for stored in self._tensors.values())

    def suggested_sampling(self) -> SuggestedSampling:
        return of_huggingface(self._directory.fields("generation_config.json"))

    def tensors(self) -> "Iterator[tuple[str, Tensor]]":
        return safetensors.read_tensors(self._tensors)

    def tokenizer(self, never_from_text: Container[str] = ()) -> Tokenizer:
        generation = self._directory.fields("generation_config.json")
        vocab_size = self.config.vocab_size
        eos = _token_ids(self._fields, "eos_token_id", vocab_size)
        if generation is not None:
            eos |= _token_ids(generation, "eos_token_id", vocab_size)
        bos = min(_token_ids(self._fields, "bos_token_id", vocab_size), default=None)
        path = self._directory.find("tokenizer.json") or self._directory.find("tokenizer.model")
        try:
            if path is not None and path.name == "tokenizer.model":
                return Tokenizer(
                    tokenizer_model.read_vocabulary(
                        path, self._settings, vocab_size, bos, eos, never_from_text
                    )
                )
            fields = self._directory.required_fields("tokenizer.json")
            return Tokenizer(
                tokenizer_json.read_vocabulary(
                    fields, self._settings, vocab_size, bos, eos, never_from_text
                )
            )
        except ModelFormatError:
            raise
        except ValueError as error:
            raise ModelFormatError(path or self.path, str(error)) from error


def _text_part(fields: Fields) -> Fields:
    """The settings of the model that reads and writes text, which may be one of several. Whether
    its head is its embeddings is said for the whole."""
    text = fields.nested("text_config")
    if text is None or fields.text("model_type") not in WRAPPERS:
        return fields
    key = "tie_word_embeddings"
    return replace(text, values={**text.values, text.prefix + key: fields.boolean(key, True)})


def _name(path: Path) -> str:
    """The hub's name of a snapshot, or the directory's."""
    if found := HUB_SNAPSHOT.search(path.resolve().as_posix()):
        return "/".join(found.groups())
    return path.resolve().name


def _chat_template(directory: Directory, settings: Fields | None) -> str | None:
    """chat_template.jinja, else tokenizer_config.json: one string, or a list of named ones."""
    if (template := directory.text("chat_template.jinja")) is not None:
        return template
    value = settings.raw("chat_template", None) if settings is not None else None
    if isinstance(value, list):
        assert settings is not None
        if not all(isinstance(item, dict) and type(item.get("name")) is str for item in value):
            raise settings.error("chat_template", "has an entry without a 'name' that is a string.")
        named = {item.get("name"): item.get("template") for item in value}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        assert settings is not None
        raise settings.error("chat_template", "must be a string, or a list of named templates.")
    return value


def _token_ids(fields: Fields, key: str, vocab_size: int) -> frozenset[int]:
    """An id, a list of ids, or none."""
    value = fields.raw(key, [])
    ids = value if isinstance(value, list) else [value]
    if not all(type(token_id) is int and 0 <= token_id < vocab_size for token_id in ids):
        raise fields.error(
            key, f"must be token ids between 0 and {vocab_size - 1}, got {value!r:.60}."
        )
    return frozenset(ids)
