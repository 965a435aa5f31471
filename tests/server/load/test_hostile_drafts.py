"""Draft models that lie: refused in a line that names the file, before anything of the size that
they claim is made; one whose weights are no numbers guesses nothing, and answers are the same."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.architectures.mtp.mtp_files import write
from tests.recipes import make_recipe
from tests.server.load import test_draft, test_mtp
from tests.server.load.test_draft import FLAGS
from tests.tiny import VOCAB_SIZE, save_tokenizer, tiny_llama
from tests.weights.hostile.trial import check_cost
from thirdeye.server.load.drafting.load_draft import find_draft
from thirdeye.server.load.load_engine import load_engine
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.load import check_described

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")

LIES: dict[str, dict[str, Any]] = {
    "layers": {"num_hidden_layers": 1 << 12},
    "tokens": {"vocab_size": 1 << 22},
    "a wide stream": {"hidden_size": 1 << 18},
    "a wide MLP": {"intermediate_size": 1 << 20},
    "heads": {"num_attention_heads": 1 << 12, "num_key_value_heads": 1 << 12},
    "wide heads": {"head_dim": 1 << 13},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served")
    tiny_llama(path)
    find_draft(str(path), open_checkpoint(path))  # what is imported at first is no file's cost
    return path


def lying(served: Path, path: Path, **changes: Any) -> Path:
    shutil.copytree(served, path, dirs_exist_ok=True)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | changes))
    return path


def not_numbers(path: Path, *but: str) -> None:
    tensors = load_file(path / "model.safetensors")
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() and not but) or any(part in name for part in but):
            tensors[name] = torch.full_like(tensor, torch.nan)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("changes", LIES.values(), ids=LIES)
def test_a_config_that_lies(served: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """As a draft, and as the model itself: its transformer is not begun."""
    path = lying(served, tmp_path, **changes)
    for work in (
        lambda: find_draft(str(path), open_checkpoint(served)),
        lambda: check_described(open_checkpoint(path)),
        lambda: load_engine(make_recipe(path, [0], **FLAGS), lambda *_: None),
    ):

        def tried(work: Any = work) -> None:
            with pytest.raises((ModelError, ValueError)) as found:
                work()
            assert str(path) in str(found.value)
            assert "\n" not in str(found.value)

        check_cost(tried)


CLOSE_LIES: dict[str, dict[str, Any]] = {  # too small for a count of numbers to show
    "a stream": {"hidden_size": 72},
    "an MLP": {"intermediate_size": 65},
    "a token more": {"vocab_size": VOCAB_SIZE + 1},
    "a head less": {"num_key_value_heads": 1},
}


@pytest.mark.parametrize("changes", CLOSE_LIES.values(), ids=CLOSE_LIES)
def test_a_config_of_other_shapes(served: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    path = lying(served, tmp_path, **changes)
    shape = r"'[a-z_.0-9]+': must have the shape \[.*\], got \[.*\]\."
    with pytest.raises(ModelError, match=f"{shape} .*'--draft' {path}: .* without '--draft'"):
        find_draft(str(path), open_checkpoint(served))
    with pytest.raises(ModelError, match=shape):
        check_described(open_checkpoint(path))


@pytest.mark.parametrize("context", [1, 2, 15])
def test_a_draft_of_no_context_guesses_nothing(served: Path, tmp_path: Path, context: int) -> None:
    path = lying(served, tmp_path, max_position_embeddings=context)
    plain, *_ = test_draft.answers(served)
    found, *_ = test_draft.answers(served, draft=str(path), speculation="ngram")
    assert found == plain


def test_a_draft_whose_weights_are_no_numbers(served: Path, tmp_path: Path) -> None:
    not_numbers(lying(served, tmp_path))
    plain, *_ = test_draft.answers(served)
    found, stats, _ = test_draft.answers(served, draft=str(tmp_path), speculation="ngram")
    assert found == plain
    assert stats.spec_decode_num_draft_tokens_total == 0


def test_a_head_whose_weights_are_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, "glm4_moe", vocab_size=VOCAB_SIZE)
    save_tokenizer(tmp_path, chat=False)
    not_numbers(tmp_path, "layers.3.")
    plain, *_ = test_mtp.answers(tmp_path)
    found, *_ = test_mtp.answers(tmp_path, speculation="mtp")
    assert found == plain
