"""Every key that the `gguf` package has for tokenizers: it changes ours, or is refused by name, or
is known to be harmless."""

from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf.constants import Keys

from tests.draws import also_at_night, is_night
from tests.weights import tiny
from tests.weights.tokenizers.test_gguf_vocabulary import byte_pieces, metadata, open_tokenizer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf.metadata_keys import TOKENIZER_HARMLESS

PREFIX = "tokenizer.ggml."
KEYS = [
    key.removeprefix(PREFIX)
    for key in vars(Keys.Tokenizer).values()
    if isinstance(key, str) and key.startswith(PREFIX)
]
VALUES = (7, True, False, "x") if is_night() else (7, "x")  # of which one is of the wrong kind


def outcome(path: Path, values: dict[str, Any]) -> str:
    """What the tokenizer is, or why there is none."""
    try:
        found = open_tokenizer(path, values, rows=1000)
    except ModelFormatError as refusal:
        return str(refusal)
    return f"{found.fingerprint} {found.eos_token_ids} {found.prefix_ids} {found.suffix_ids}"


@also_at_night
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_every_key(tmp_path: Path, model: str) -> None:
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    values = metadata("gpt2") if model == "gpt2" else byte_pieces() | ends
    path = tmp_path / "model.gguf"
    before = outcome(path, values)
    assert "gguf" not in before
    for key in {*KEYS, "of_tomorrow"} - {"eos_token_id", "bos_token_id"}:
        found = [outcome(path, values | {key: value}) for value in VALUES]
        assert set(found) != {before} or key in TOKENIZER_HARMLESS, key
        assert all(key in one for one in found if "gguf" in one), found


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tiny.llama_gguf(
        tiny.llama(), tmp_path / "a.gguf", describe=lambda w: gguf.GGUFWriter.add_type(w, "adapter")
    )
    with pytest.raises(ModelFormatError, match=r"'general\.type': is not supported.*adapter"):
        open_checkpoint(path)
