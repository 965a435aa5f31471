"""The experts of gpt-oss: held to transformers' own conversion, and to the definition."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tests.architectures.cases import randomized
from tests.architectures.expert_cases import gpt_oss
from tests.architectures.running import load, logits
from tests.weights.formats.quantized.float_forms import E2M1
from thirdeye.model.native.library import Library
from thirdeye.model.parts.experts import Experts
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
    found, stored = weight.read(), weight.stored()
    assert stored is not None
    assert stored.shape == (3, 10, 64)
    assert torch.equal(torch.from_numpy(stored.widen()), found.transpose(1, 2))
    blocks, scales = tensors[f"{NAME}_blocks"].read(), tensors[f"{NAME}_scales"].read()
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(found, theirs)
    for expert, row, column in ((0, 0, 0), (2, 9, 63), (1, 4, 33), (2, 0, 32)):
        byte = int(blocks[expert, row, column // 32, column % 32 // 2])
        code = byte >> 4 if column % 2 else byte & 15
        value = E2M1[code] * 2.0 ** (int(scales[expert, row, column // 32]) - 127)
        assert found[expert, column, row].item() == value


def test_a_scale_that_is_no_number_is_kept_by_nobody(tmp_path: Path) -> None:
    path = write(tmp_path, scales=torch.full(SHAPE, 255, dtype=torch.uint8))
    weight = gather_weights(list_tensors([path]), MXFP4(ModulePatterns()))[NAME]
    assert isinstance(weight, QuantizedWeight)
    assert weight.stored() is None
    assert weight.read().isnan().all()


def test_scales_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, scales=torch.zeros(3, 10, 3, dtype=torch.uint8))
    with pytest.raises(ModelFormatError, match=r"_scales': must have the shape 3 x 10 x 2, got"):
        gather_weights(list_tensors([path]), MXFP4(ModulePatterns()))


def quantized_gpt_oss(folder: Path) -> PreTrainedModel:
    """A tiny gpt-oss, its experts written as OpenAI writes them; given back is what they say."""
    sizes = {"hidden_size": 64, "intermediate_size": 32, "sliding_window": 7}
    model = randomized(gpt_oss(**sizes))
    tensors, generator = dict(model.state_dict()), torch.Generator().manual_seed(0)
    for name, values in model.state_dict().items():
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, width, height = values.shape
            shape = (experts, height, width // 32)
            blocks = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
            scales = torch.randint(121, 126, shape, generator=generator, dtype=torch.uint8)
            values.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
            del tensors[name]
            tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    model.config.save_pretrained(folder)
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    path = folder / "config.json"
    settings = {"quantization_config": {"quant_method": "mxfp4"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return model


def test_a_whole_gpt_oss(tmp_path: Path, native: Library) -> None:
    """Gates and partners in turns, inputs first: each number at its place; and multiplied as the
    file has them, which rounds activations alone."""
    ids = [5, 17, 3, 80, 2, 9, 11, 40]
    with torch.inference_mode():
        theirs = quantized_gpt_oss(tmp_path)(torch.tensor([ids])).logits[0]
        ours = logits(load(tmp_path), ids)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        model = load(tmp_path, native=native, quantize="stored")
        kept = logits(model, ids)
    assert (kept - theirs).norm() / theirs.norm() < 0.1  # attention is in 8 bits besides
    experts = [
        each for layer in model.modules() if isinstance(layer, Experts) for each in layer.experts
    ]
    assert {tuple(each.gate_up.kept.formats) for each in experts} == {("MXFP4",)}
    assert {tuple(each.down.kept.formats) for each in experts} == {("MXFP4",)}
