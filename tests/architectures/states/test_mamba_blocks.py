"""Models with Mamba-2's layers in a GGUF file's blocks, which are multiplied as they are stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from tests.architectures.cases import Case, randomize
from tests.architectures.running import load, logits
from tests.architectures.states import mamba_gguf
from tests.architectures.states.mamba_cases import falcon, granite, nemotron
from tests.architectures.test_architectures import TOKENS, theirs_of
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.parts.states.mamba2 import Mamba2
from thirdeye.weights.errors import ModelFormatError

WIDE = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 97}
Q8_0 = gguf.GGMLQuantizationType.Q8_0
MODELS: dict[str, tuple[Case, Callable[..., Path]]] = {
    "granite": (
        granite(**WIDE, mamba_n_heads=4, mamba_d_head=32, shared_intermediate_size=96, head_dim=16,
                num_attention_heads=4),
        mamba_gguf.granite_gguf,
    ),
    "falcon": (falcon(**WIDE, mamba_d_ssm=64, mamba_d_head=16), mamba_gguf.falcon_gguf),
    "nemotron": (
        nemotron(
            **WIDE, mamba_num_heads=4, mamba_head_dim=16, moe_intermediate_size=64,
            moe_shared_expert_intermediate_size=32,
            layers_block_type=["linear_attention", "moe", "full_attention", "moe"],
        ),
        mamba_gguf.nemotron_gguf,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_multiplied_as_they_are(name: str, tmp_path: Path, native: Library) -> None:
    """One stored matrix has the rows of five parts, which lie in another order here."""
    case, write = MODELS[name]
    model = case.make().eval()
    case.corrected(model)
    randomize(model)
    torch.set_num_threads(1)
    with torch.inference_mode():
        path = write(model, tmp_path / "m.gguf", Q8_0)
        ours = load(path, native=native, quantize="stored")
        assert kept_of(ours) == {StoredLinearKernel}
        theirs = theirs_of(model)
        far = (logits(ours, TOKENS, 7) - theirs).abs()
        assert far.mean() < 0.05 * theirs.std()  # rounding; rows of another part: all of it
        assert torch.equal(logits(ours, TOKENS, 7), logits(ours, TOKENS))


def test_a_norm_in_blocks_is_refused(
    tmp_path: Path, native: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a matrix in the file, a row for each group, and a vector here."""
    monkeypatch.setattr(mamba_gguf, "KEPT", ("ssm_conv1d", "ssm_a", "ssm_d", "ffn_gate_inp"))
    case, write = MODELS["granite"]
    with torch.inference_mode():
        path = write(case.make().eval(), tmp_path / "m.gguf", Q8_0)
    with pytest.raises(ModelFormatError, match=r"ssm_norm\.weight': is a vector"):
        load(path, native=native, quantize="stored")


def kept_of(model: Any) -> set[type]:
    """How the projections of layers with a state are kept."""
    return {type(layer.project.kept) for layer in model.modules() if isinstance(layer, Mamba2)}
