"""GGUF files that keep in one tensor what is read together say the same as those that do not."""

from pathlib import Path

import pytest
import torch

from tests.architectures.conftest import Written
from tests.architectures.fused.fused_gguf import fused
from tests.architectures.running import load, logits
from tests.architectures.table import CASES
from tests.draws import also_at_night, is_night

TOKENS = torch.randint(97, (20,), generator=torch.Generator().manual_seed(2)).tolist()
SAVED_SO = {"gpt2", "phi3", "gpt_neox", "bloom", "mpt", "falcon", "gpt_bigcode", "mistral4"}
SAVED_SO |= {"minicpm3", "youtu"}  # dense, with latents: nothing of theirs is read together
# Turned, biased, uneven, with experts, by neighbours, with gates.
SOME = ["llama", "qwen2", "gemma4_text", "qwen3_moe", "glm", "qwen3_next"]
NAMES = [name for name, case in CASES.items() if case.gguf] if is_night() else SOME


@also_at_night
@pytest.mark.parametrize("name", NAMES)
def test_gguf_with_what_is_read_together_in_one(
    written: Written, name: str, tmp_path: Path
) -> None:
    """At night all that have a GGUF form, but for those whose form is always so."""
    _, _, file = written(name)
    assert file is not None
    if fused(file, tmp_path / "m.gguf"):
        assert torch.equal(logits(load(tmp_path / "m.gguf"), TOKENS), logits(load(file), TOKENS))
    else:
        assert name.partition("-")[0] in SAVED_SO
