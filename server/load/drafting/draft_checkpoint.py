"""The draft model's files, for whoever counts its memory and for whoever loads it: no torch."""

from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.resolve import resolve_model


def open_draft(name: str) -> Checkpoint:
    """Raises ModelError; of one that is not there with the flag that names it."""
    try:
        path = resolve_model(name)
    except ModelNotFound as error:
        raise ModelNotFound(f"'--draft' {name}: {error}") from error
    return open_checkpoint(path)
