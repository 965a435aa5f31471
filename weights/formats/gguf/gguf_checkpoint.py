"""A checkpoint in one GGUF file: metadata, tokenizer and tensors, quantized ones as they lie."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.guessing import IN_GGUF
from thirdeye.weights.architectures.common.guessing_head import GuessingHead, head_config
from thirdeye.weights.architectures.common.limits import MAX_VOCAB
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.common.stored_shape import TensorShape
from thirdeye.weights.architectures.registry import by_gguf_name
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.fingerprint import fingerprint
from thirdeye.weights.formats.fields import Fields
from thirdeye.weights.formats.gguf.dequantize import dequantize, stored_tensor
from thirdeye.weights.formats.gguf.gguf_vocabulary import read_vocabulary
from thirdeye.weights.formats.gguf.metadata_keys import Noted, refuse_unread
from thirdeye.weights.formats.gguf.reader import GGUFFile
from thirdeye.weights.formats.gguf.split import open_gguf, without_number
from thirdeye.weights.formats.gguf.tensor_scales import TensorScales
from thirdeye.weights.formats.suggested_sampling import GGUF_PREFIX, SuggestedSampling, of_gguf
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

FIRST_LAYER = "blk.0."
QUANTIZATION_SUFFIX = re.compile(r"[.-](?:I?Q\d\w*|F16|F32|BF16)$", re.IGNORECASE)


class GGUFCheckpoint:
    """Opening it reads and checks the whole description; tensors are read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        stem = without_number(path.stem)
        self.name = QUANTIZATION_SUFFIX.sub("", stem) or stem
        self._file = open_gguf(path)
        fields = Fields(path, self._file.metadata)
        fields.refuse("general.type", "model")  # an adapter, a projector, an importance matrix
        architecture = by_gguf_name(fields)
        self._tokens_swallow_space = architecture.tokens_swallow_space
        noted = Noted(self._file.metadata)
        self.architecture = fields.text("general.architecture")
        prefixed = Fields(path, noted, self.architecture + ".")
        vocab_size = _vocab_size(self._file)
        self.config: ModelConfig = architecture.gguf_config(prefixed, self._file, vocab_size)
        refuse_unread(prefixed, noted)
        self._names = architecture.gguf_names(self.config)
        self._head = self._find_head(architecture)
        self._scales = TensorScales(self._file, self._has_place)
        self._vectors = dict(architecture.gguf_vectors(self._file, self.config))
        self.chat_template = fields.optional_text("tokenizer.chat_template")
        self.tool_template = fields.optional_text("tokenizer.chat_template.tool_use")

    @property
    def fingerprint(self) -> str:
        files = (self._file, *self._file.parts)
        descriptions = [file.data[: file.data_offset] for file in files]
        return fingerprint(descriptions, [file.path for file in files])

    def targets(self, name: str) -> list[TensorTarget] | None:
        return [] if name in self._scales.names else self._names.place(name)

    def tensor_sizes(self) -> dict[str, int]:
        vectors = {name: vector.nbytes for name, vector in self._vectors.items()}
        return {name: self._file.tensors[name].num_bytes for name in self._stored()} | vectors

    def tensor_shapes(self) -> dict[str, TensorShape]:
        vectors = {name: TensorShape(vector.shape) for name, vector in self._vectors.items()}
        return {name: self._shape(name) for name in self._stored()} | vectors

    def _shape(self, name: str) -> TensorShape:
        info = self._file.tensors[name]
        return TensorShape(info.shape, info.type.block_size > 1)

    def tensor_formats(self) -> dict[str, int]:
        return Counter(self._file.tensors[name].type.name for name in self._stored())

    def _stored(self) -> list[str]:
        return [name for name in self._file.tensors if self.targets(name) != []]

    def guessing_head(self) -> GuessingHead | None:
        return self._head

    def _find_head(self, architecture: Architecture) -> GuessingHead | None:
        if architecture.guessing_names is None:
            return None
        head = GuessingHead(
            self.path,
            self.config,
            IN_GGUF,
            architecture.gguf_names(head_config(self.config)),
            self._names.place,
            {name: info.num_bytes for name, info in self._file.tensors.items()},
            {name: self._shape(name) for name in self._file.tensors},
            self._read_all,
        )
        if head.is_there and not any(name.startswith(FIRST_LAYER) for name in self._file.tensors):
            raise ModelFormatError(
                self.path,
                "holds the head that guesses (MTP) and not its model: give a file that has both, "
                "and '--speculation mtp'.",
            )
        return head if head.is_there else None

    def _has_place(self, name: str) -> bool:
        """In the model, or in its head that guesses."""
        return bool(self._names.place(name) or (self._head and self._head.targets(name)))

    def suggested_sampling(self) -> SuggestedSampling:
        fields = Fields(self.path, self._file.metadata, GGUF_PREFIX)
        return of_gguf(fields, self.config.vocab_size)

    def tensors(self) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        import torch  # noqa: PLC0415 (a checkpoint's description is read without torch)

        yield from self._read_all(self._stored())
        for name, vector in self._vectors.items():
            yield name, torch.from_numpy(vector)

    def _read_all(self, names: Iterable[str]) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        import torch  # noqa: PLC0415

        for name in names:
            info, raw = self._file.tensors[name], self._file.tensor_bytes(name)
            if name in self._scales:
                numbers = dequantize(raw, info.type, info.shape)
                yield name, torch.from_numpy(self._scales.scale(name, numbers))
            elif info.type.block_size > 1 and len(info.shape) > 1:
                yield name, stored_tensor(raw, info.type, info.shape)
            else:
                yield name, torch.from_numpy(dequantize(raw, info.type, info.shape))
            self._file.release()  # all: a layer that waited for this tensor read others again

    def tokenizer(self, never_from_text: Container[str] = ()) -> Tokenizer:
        try:
            vocabulary = read_vocabulary(
                self._file,
                self.config.vocab_size,
                never_from_text,
                swallow_space=self._tokens_swallow_space,
            )
            return Tokenizer(vocabulary)
        except ValueError as error:
            raise ModelFormatError(self.path, str(error), field="tokenizer.ggml") from error


def _vocab_size(file: GGUFFile) -> int:
    """As many as the embedding has rows; the optional metadata key is not always right."""
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFormatError(
            file.path, "there must be a matrix of this name.", field="token_embd.weight"
        )
    if (rows := embedding.shape[0]) > MAX_VOCAB:
        raise ModelFormatError(
            file.path, f"has {rows:,} rows, the limit is {MAX_VOCAB:,}.", field=embedding.name
        )
    return rows
