"""A cheap, stable name for what a checkpoint holds.

Covers each file's size, its description (GGUF header and metadata, config.json, tokenizer files) in
full, and 64 evenly spaced samples of 4 KiB of each weight file. So it changes with any other model,
quantization, template or fine-tune, and costs milliseconds. It is no proof of integrity: one
changed weight between samples goes unseen. Does not cover file names or times.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from thirdeye.weights.errors import ModelFormatError

SAMPLES = 64
SAMPLE_BYTES = 4096


def fingerprint(descriptions: Iterable[bytes], weight_files: Iterable[Path]) -> str:
    """SHA-256, hexadecimal. The order of both arguments matters."""
    digest = hashlib.sha256()
    for description in descriptions:
        digest.update(b"description %d " % len(description))
        digest.update(description)
    for path in weight_files:
        try:
            _add_samples(digest, path)
        except OSError as error:
            raise ModelFormatError(path, f"cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def _add_samples(digest: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(b"weights %d " % size)
        for sample in range(SAMPLES):
            file.seek(max(size - SAMPLE_BYTES, 0) * sample // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
