"""Heads that guess one more token: read by the real loader, against the head written plainly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.architectures.cases import VOCAB_SIZE
from tests.architectures.mtp.mtp_files import CASES, Head, write, write_gguf
from tests.architectures.running import CPU, load, logits, make_cache
from tests.model.steps import Row, make_batch
from thirdeye.model.attention.blocked import BlockedAttention
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.transformer import Transformer
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.load import load_weights

TOKENS = [(i * 37 + 11) % VOCAB_SIZE for i in range(40)]


def load_head(path: Path) -> Transformer:
    source = open_checkpoint(path).guessing_head()
    assert source is not None
    model = Transformer(source.config, BlockedAttention(), dtype=torch.float32, device=CPU)
    loader = ModelLoader(model)
    load_weights(source, loader)
    loader.finish()
    return model


def written(path: Path, name: str, form: str) -> tuple[Path, PreTrainedModel, Head]:
    if form == "GGUF":
        return write_gguf(path, name)
    return path, *write(path, name)


@pytest.mark.parametrize("form", ["safetensors", "GGUF"])
@pytest.mark.parametrize("name", CASES)
def test_as_written_plainly(tmp_path: Path, name: str, form: str) -> None:
    """In one step and in chunks of 7; and the model itself takes no notice of the head."""
    path, model, head = written(tmp_path, name, form)
    with torch.no_grad():
        found = model(torch.tensor([TOKENS]), output_hidden_states=True)
    torch.testing.assert_close(logits(load(path), TOKENS), found.logits[0], atol=2e-4, rtol=1e-3)
    own = found.hidden_states[-1][0]  # normed
    before = torch.cat([torch.zeros(1, own.shape[-1]), own[:-1]])
    expected, states = head(TOKENS, before)
    ours = load_head(path)
    for chunk in (40, 7):
        cache, told = make_cache(ours), []
        for start in range(0, 40, chunk):
            row = Row(TOKENS[start : start + chunk], start, [3, 1, 4, 2])
            batch = make_batch([row], 16, "all")
            batch = replace(batch, hidden=before[start : start + chunk])
            told.append(ours.with_hidden(batch, cache))
        said, hidden = (torch.cat(parts) for parts in zip(*told, strict=True))
        torch.testing.assert_close(said, expected, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(hidden, states, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_a_norm_that_a_file_leaves_out_is_the_model_s(tmp_path: Path, name: str) -> None:
    """As llama.cpp has it."""
    path, *_ = write_gguf(tmp_path, name, leave_out="shared_head.norm")
    model, ours = load(path), load_head(path)
    assert torch.equal(model.state_dict()["final_norm.weight"], ours.final_norm.weight)


def test_a_checkpoint_without_one_says_so(tmp_path: Path) -> None:
    """And a file that counts one more layer, and does not have it."""
    whole, _ = CASES["glm4_moe"]()
    whole.make().save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).guessing_head() is None
    path, *_ = write_gguf(tmp_path, "glm4_moe", leave_out=".layers.3.")
    checkpoint = open_checkpoint(path)
    assert checkpoint.guessing_head() is None
    assert checkpoint.config.num_hidden_layers == 3


def test_a_file_of_the_head_alone_says_what_to_give(tmp_path: Path) -> None:
    """llama.cpp's converter writes such files too (`--mtp`)."""
    path, *_ = write_gguf(tmp_path, "glm4_moe", is_alone=True)
    with pytest.raises(ModelFormatError, match=r"and not its model: give a file that has both"):
        open_checkpoint(path)
