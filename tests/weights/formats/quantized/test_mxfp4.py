"""The experts of gpt-oss: held to transformers' own conversion, and to the definition."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tests.weights.formats.quantized.float_forms import E2M1
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.quantized.gather_weights import gather_weights
from thirdeye.weights.formats.quantized.module_patterns import ModulePatterns
from thirdeye.weights.formats.quantized.mxfp4 import MXFP4
from thirdeye.weights.formats.quantized.quantized_weight import QuantizedWeight
from thirdeye.weights.formats.safetensors import list_tensors

NAME = "model.layers.0.mlp.experts.gate_up_proj"
SHAPE = (3, 10, 2)  # experts, rows, groups of 32


def write(path: Path, **changes: torch.Tensor) -> Path:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (*SHAPE, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(100, 140, SHAPE, generator=generator, dtype=torch.uint8)
    bias = torch.zeros(3, 10)
    tensors = {f"{NAME}_blocks": blocks, f"{NAME}_scales": scales, f"{NAME}_bias": bias}
    save_file(tensors | {f"{NAME}_{k}": t for k, t in changes.items()}, path / "x.safetensors")
    return path / "x.safetensors"


def test_blocks_and_scales(tmp_path: Path) -> None:
    tensors = list_tensors([write(tmp_path)])
    weights = gather_weights(tensors, MXFP4(ModulePatterns()))
    assert set(weights) == {NAME, f"{NAME}_bias"}
    weight = weights[NAME]
    assert isinstance(weight, QuantizedWeight)
    assert weight.shape == (3, 64, 10)
    found = weight.read()
    blocks, scales = tensors[f"{NAME}_blocks"].read(), tensors[f"{NAME}_scales"].read()
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(found, theirs)
    for expert, row, column in ((0, 0, 0), (2, 9, 63), (1, 4, 33), (2, 0, 32)):
        byte = int(blocks[expert, row, column // 32, column % 32 // 2])
        code = byte >> 4 if column % 2 else byte & 15
        value = E2M1[code] * 2.0 ** (int(scales[expert, row, column // 32]) - 127)
        assert found[expert, column, row].item() == value


def test_scales_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, scales=torch.zeros(3, 10, 3, dtype=torch.uint8))
    with pytest.raises(ModelFormatError, match=r"_scales': must have the shape 3 x 10 x 2, got"):
        gather_weights(list_tensors([path]), MXFP4(ModulePatterns()))
