"""One view of all checkpoints: a config, a tokenizer, a chat template, and named tensors.

Opening reads descriptions alone and never imports torch, so that a process which only needs the
tokenizer and the template starts at once. Tensors come lazily, one at a time: the peak is about one
tensor.
"""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.architectures.common.guessing_head import GuessingHead
from thirdeye.weights.architectures.common.name_table import TensorTarget
from thirdeye.weights.architectures.common.stored_shape import TensorShape
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf import format as gguf
from thirdeye.weights.formats.gguf.gguf_checkpoint import GGUFCheckpoint
from thirdeye.weights.formats.huggingface import HuggingFaceCheckpoint
from thirdeye.weights.formats.other_formats import first_bytes, no_model_file
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class Checkpoint(Protocol):
    """Any method may raise `ModelFormatError`: a description is checked as far as it is used."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str:
        """The name to serve the model under by default."""

    @property
    def architecture(self) -> str:
        """The name that the checkpoint has for it: `model_type`, `general.architecture`."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def chat_template(self) -> str | None: ...

    @property
    def tool_template(self) -> str | None:
        """The one that is used where a request has tools, if there is another for that."""

    def tensor_formats(self) -> dict[str, int]:
        """How many of the tensors are stored in each type, by the format's own name for it."""

    def suggested_sampling(self) -> SuggestedSampling:
        """How the checkpoint's author suggests to draw tokens."""

    @property
    def fingerprint(self) -> str:
        """See `thirdeye.weights.fingerprint` for what it covers."""

    def tokenizer(self, never_from_text: Container[str] = ()) -> Tokenizer:
        """`never_from_text`: added tokens that text shall not become, though the checkpoint does
        not call them special."""

    def tensors(self) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        """Name and tensor, in the checkpoint's layout, quantized ones as they are stored; those
        ignored by rule are left out. Imports torch."""

    def tensor_sizes(self) -> dict[str, int]:
        """The names that `tensors` yields, with their stored sizes in bytes."""

    def tensor_shapes(self) -> dict[str, TensorShape]:
        """Of the same names, as their description has them."""

    def guessing_head(self) -> GuessingHead | None:
        """What guesses one more token behind the model, if there is one that is read."""

    def targets(self, name: str) -> list[TensorTarget] | None:
        """Where a tensor goes; `[]` if a rule says to ignore it, None if the name is unknown."""


def open_checkpoint(path: Path) -> Checkpoint:
    """A directory in Hugging Face layout, or a GGUF file, whatever it is called: Ollama's are named
    by their hash. Raises `ModelFormatError`."""
    if path.is_dir():
        return HuggingFaceCheckpoint(path)
    if not path.exists():
        raise ModelFormatError(path, "no such file or directory.")
    if path.suffix == ".gguf" or first_bytes(path).startswith(gguf.MAGIC):
        return GGUFCheckpoint(path)
    raise no_model_file(path)
