"""Experts as a GGUF file stores them: cut out of their stack and multiplied as they lie."""

from pathlib import Path

import gguf
import pytest
import torch

from tests.architectures.cases import randomized
from tests.architectures.expert_cases import qwen2
from tests.architectures.expert_gguf import expert_gguf
from tests.architectures.running import load, logits
from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.int8_linear import Int8LinearKernel
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.parts.experts import Experts
from thirdeye.weights.checkpoint import open_checkpoint

IDS = [5, 17, 3, 80, 2, 9, 11, 40, 41, 8]
SIZES = {
    "hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_experts_per_tok": 6,  # all of them: rounding turns no choice
}  # fmt: skip


@pytest.fixture(scope="module", params=["Q8_0", "Q4_0"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = gguf.GGMLQuantizationType[request.param]
    path = tmp_path_factory.mktemp("stored") / f"m-{request.param}.gguf"
    return expert_gguf(randomized(qwen2(**SIZES)), path, kind)


def kinds(path: Path, native: Library, quantize: str) -> set[tuple[type, str]]:
    model = load(path, native=native, quantize=quantize)
    layers = [layer for layer in model.modules() if isinstance(layer, Experts)]
    assert len(layers) == 2
    kept = [
        linear.kept
        for layer in layers
        for expert in (*layer.experts, layer.shared)
        for linear in (expert.gate_up, expert.down)
    ]
    return {(type(kernel), *getattr(kernel, "formats", ("",))) for kernel in kept}


def test_multiplied_as_they_are(stored: Path, native: Library) -> None:
    name = stored.stem.removeprefix("m-")
    assert kinds(stored, native, "stored") == {(StoredLinearKernel, name)}
    assert kinds(stored, native, "int8") == {(Int8LinearKernel, "")}
    exact = logits(load(stored), IDS)
    for quantize, limit in (("stored", 0.03), ("int8", 0.06), ("q8_0", 0.06)):
        rounded = logits(load(stored, native=native, quantize=quantize), IDS)
        assert (rounded - exact).norm() / exact.norm() < limit, quantize


def test_nothing_is_lost(stored: Path) -> None:
    """Each expert's matrix is its part of the stack, byte for byte."""
    tensors = dict(open_checkpoint(stored).tensors())
    stack = tensors["blk.1.ffn_up_exps.weight"]
    assert isinstance(stack, StoredTensor)
    dense = torch.from_numpy(stack.widen())
    assert dense.shape == (6, 32, 64)
    for expert in range(6):
        one = stack.expert(expert)
        assert one.blocks.tobytes() == stack.blocks[32 * expert : 32 * (expert + 1)].tobytes()
        assert torch.equal(torch.from_numpy(one.widen()), dense[expert])
