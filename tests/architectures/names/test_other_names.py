"""Models whose code comes with the checkpoint, and whose form is one that transformers has by
another name: the same weights under that name are the same model."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedModel

from tests.architectures.cases import SIZES, randomize
from tests.architectures.conftest import Written
from tests.architectures.running import load, logits
from tests.architectures.test_architectures import TOKENS, theirs_of
from tests.weights.tiny import llama_gguf
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

HEAD_DIM, LAYERS = SIZES["head_dim"], SIZES["num_hidden_layers"]


def close(path: Path, theirs: Tensor) -> None:
    torch.testing.assert_close(logits(load(path), TOKENS), theirs, atol=1e-4, rtol=1e-4)


def written_as(
    model: PreTrainedModel, path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """By llama.cpp's converter, with another architecture's name."""

    class Writer(gguf.GGUFWriter):
        def __init__(self, path: Path, _: str) -> None:
            super().__init__(path, name)

        def add_attention_scale(self, value: float) -> None:
            """The usual one, which files of these names do not say."""
            assert value == HEAD_DIM**-0.5

    monkeypatch.setattr(gguf, "GGUFWriter", Writer)
    return llama_gguf(model, path)


def renamed(folder: Path, changes: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_xverse(written: Written, tmp_path: Path) -> None:
    model, _, _ = written("llama")
    model.save_pretrained(tmp_path)
    renamed(tmp_path, {"model_type": "xverse"})
    close(tmp_path, theirs_of(model))


@pytest.mark.parametrize("name", ["xverse", "internlm2"])
def test_llamas_in_gguf(
    written: Written, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, _ = written("llama")
    close(written_as(model, tmp_path / "m.gguf", name, monkeypatch), theirs_of(model))


@pytest.fixture(scope="module")
def minicpm() -> PreTrainedModel:
    config = GraniteConfig(
        **SIZES,
        embedding_multiplier=12.0,
        residual_multiplier=1.4 / LAYERS**0.5,
        logits_scaling=SIZES["hidden_size"] / 32,
        attention_multiplier=HEAD_DIM**-0.5,
    )
    model = GraniteForCausalLM(config).eval()
    randomize(model)
    return model


def test_minicpm(minicpm: PreTrainedModel, tmp_path: Path) -> None:
    minicpm.save_pretrained(tmp_path)
    scales = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32}
    renamed(tmp_path, {"model_type": "minicpm", **scales})
    close(tmp_path, theirs_of(minicpm))
    renamed(tmp_path, {"sparse_config": {"kernel_size": 32}})
    with pytest.raises(ModelFormatError, match="'sparse_config': is not supported"):
        open_checkpoint(tmp_path)


def test_minicpm_in_gguf(
    minicpm: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(written_as(minicpm, tmp_path / "m.gguf", "minicpm", monkeypatch), theirs_of(minicpm))
