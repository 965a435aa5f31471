"""Weights of a GGUF file that have a scale beside them."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.architectures.cases import SIZES, relative
from tests.architectures.conftest import Written
from tests.architectures.expert_gguf import expert_gguf
from tests.architectures.fused.fused_gguf import write
from tests.architectures.fused.scaled_gguf import scaled
from tests.architectures.running import load, logits
from tests.weights.tiny import llama_gguf
from thirdeye.weights.errors import ModelFormatError

TOKENS = torch.randint(97, (20,), generator=torch.Generator().manual_seed(2)).tolist()
WIDE = {
    **SIZES,
    "num_attention_heads": 4,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
}
CASES = {  # whose rows are whole blocks of Q8_0, dense and with experts
    "llama": relative("llama", **WIDE),
    "qwen3_moe": relative(
        "qwen3_moe", **WIDE, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2
    ),
}
WRITE = {"llama": llama_gguf, "qwen3_moe": expert_gguf}


@pytest.fixture(params=CASES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """With scales, and without."""
    plain = WRITE[request.param](CASES[request.param].make().eval(), tmp_path / "whole.gguf")
    made = scaled(plain, tmp_path / "scaled.gguf", tmp_path / "plain.gguf")
    assert made == {"llama": 2 * 7, "qwen3_moe": 2 * 8}[request.param]
    return tmp_path / "scaled.gguf", tmp_path / "plain.gguf"


def test_weights_are_multiplied(files: tuple[Path, Path]) -> None:
    ours, plain = (logits(load(file), TOKENS) for file in files)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_a_tensor_of_that_name_that_has_a_place(written: Written, tmp_path: Path) -> None:
    """Gemma 4 calls so what its experts' outputs are multiplied by, which stays that."""
    _, _, file = written("gemma4_text-experts")
    assert file is not None
    reader = gguf.GGUFReader(file)
    names = {one.name for one in reader.tensors}
    assert "blk.0.ffn_down_exps.scale" in names
    load(file)


@pytest.mark.parametrize(
    ("scale", "problem"),
    [
        (np.ones(2, np.float32), "must be one number"),
        (np.array([np.inf], np.float32), "must be finite"),
    ],
)
def test_a_scale_that_is_none(
    files: tuple[Path, Path], tmp_path: Path, scale: npt.NDArray[np.float32], problem: str
) -> None:
    reader = gguf.GGUFReader(files[1])
    tensors = {one.name: one.data for one in reader.tensors}
    tensors["blk.0.attn_q.scale"] = scale
    write(reader, tensors, tmp_path / "odd.gguf")
    with pytest.raises(ModelFormatError, match=rf"'blk\.0\.attn_q\.scale': {problem}"):
        load(tmp_path / "odd.gguf")
