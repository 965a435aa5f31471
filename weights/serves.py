"""Whether a checkpoint will serve: every check of the start that needs no tensor's values."""

from dataclasses import dataclass
from pathlib import Path

from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling
from thirdeye.weights.load import check_described
from thirdeye.weights.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Description:
    """What could be read, and a line for each reader that refused. A checkpoint that does not open
    has neither tokenizer nor checked tensors: nothing else was asked."""

    checkpoint: Checkpoint | None
    tokenizer: Tokenizer | None
    sampling: SuggestedSampling | None
    refusals: tuple[str, ...]


def describe(path: Path, never_from_text: tuple[str, ...] = ()) -> Description:
    """Ask each reader in turn, and go on after a refusal."""
    refusals: list[str] = []
    checkpoint, tokenizer, sampling = None, None, None
    try:
        checkpoint = open_checkpoint(path)
    except ModelError as error:
        return Description(None, None, None, (str(error),))
    try:
        tokenizer = checkpoint.tokenizer(never_from_text)
    except ModelError as error:
        refusals.append(str(error))
    try:
        sampling = checkpoint.suggested_sampling()
    except ModelError as error:
        refusals.append(str(error))
    try:
        check_tensors(checkpoint)
    except ModelError as error:
        refusals.append(str(error))
    return Description(checkpoint, tokenizer, sampling, tuple(refusals))


def check_tensors(checkpoint: Checkpoint) -> None:
    """Each tensor has a place and its shape, and each parameter a tensor. Raises
    `ModelFormatError`."""
    check_described(checkpoint)
