"""Settings and tensors of the other methods that are not read exactly: refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.weights.formats.quantized.compressed_forms import COMPRESSED_FORMS
from tests.weights.formats.quantized.float_forms import FLOAT_FORMS
from tests.weights.formats.quantized.forms import save_quantized, write_settings
from tests.weights.formats.quantized.integer_forms import INTEGER_FORMS
from tests.weights.formats.quantized.test_quantized_models import llama
from tests.weights.formats.quantized.test_quantized_refusals import Q, load
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

FORMS = FLOAT_FORMS | COMPRESSED_FORMS | INTEGER_FORMS
SKIPPED = r"the settings say that its module is not"


def of_group(**changes: Any) -> dict[str, Any]:
    """The one group's settings of packed-4, otherwise."""
    group = FORMS["packed-4"].settings["config_groups"]["group_0"]
    return {"config_groups": {"group_0": group | changes}}


def of_weights(**changes: Any) -> dict[str, Any]:
    weights = FORMS["packed-4"].settings["config_groups"]["group_0"]["weights"]
    return of_group(weights=weights | changes)


SETTINGS = [
    ("auto-round", {"packing_format": "auto_round:llm_compressor"}, r"llm_compressor' is not supp"),
    ("auto-round", {"block_name_to_quantize": "model.layers.1, lm_head"}, SKIPPED),
    ("auto-round-awq", {"extra_config": {"model.layers.0.mlp.up_proj": {"bits": 16}}}, SKIPPED),
    ("auto-round-awq", {"extra_config": {"mlp.(up|gate)": {"bits": 16}}}, SKIPPED),
    ("auto-round", {"extra_config": {"(a|b)*c": {"bits": 16}}}, r"repeats too much"),
    (
        "auto-round",
        {"extra_config": {"a": {"data_type": "mx_fp"}}},
        r"data_type': is not supported",
    ),
    ("auto-round", {"data_type": "nv_fp"}, r"data_type': is not supported \(value 'nv_fp'\)"),
    ("auto-round", {"bits": 16}, r"nothing would be packed"),
    ("auto-round", {"act_bits": 8}, r"act_bits': is not supported"),
    ("auto-round-awq", {"bits": 8}, r"8 bits in AWQ's layout are not supported: 4 are"),
    ("fp8-blocks", {"fmt": "e5m2"}, r"fmt': 'e5m2' is not supported; supported is e4m3"),
    ("fp8-blocks", {"weight_block_size": [32]}, r"must be two sizes above 0, got \[32\]"),
    ("fp8-blocks", {"weight_block_size": [32, 0]}, r"must be two sizes above 0"),
    ("fp8-blocks", {"weight_block_size": [16, 32]}, r"must have 4 x 3 scales \(blocks of 16 x 32"),
    ("fp8-blocks", {"modules_to_not_convert": ["model.layers.0"]}, SKIPPED),
    ("fp8-one-scale", {"ignored_layers": ["q_proj"]}, SKIPPED),
    ("modelopt-fp8", {"quant_algo": "W4A8_AWQ"}, r"'W4A8_AWQ' is not supported; supported: FP8"),
    ("modelopt-fp8", {"exclude_modules": ["*.q_proj"]}, SKIPPED),
    ("modelopt-nvfp4", {"group_size": 32}, r"group_size': must be 16"),
    ("nf4", {"llm_int8_skip_modules": ["lm_head", "q_proj"]}, SKIPPED),
    ("packed-4", {"format": "marlin-24"}, r"format': 'marlin-24' is not supported; supported are"),
    ("packed-4", {"ignore": ["re:.*q_proj"]}, SKIPPED),
    ("packed-4", {"sparsity_config": {"format": "sparse-24-bitmask"}}, r"use a checkpoint without"),
    ("packed-4", {"transform_config": {"config_groups": {}}}, r"transform_config': is not support"),
    ("packed-4", {"config_groups": {}}, r"no group of the settings has its module"),
    ("packed-4", of_group(targets=["re:.*down_proj"]), r"no group of the settings has its module"),
    ("packed-4", of_group(weights=None), r"group_0\.weights': is required and missing"),
    ("packed-4", of_weights(strategy="token"), r"strategy': 'token' is not supported: tensor"),
    ("packed-4", of_weights(type="complex"), r"type': 'complex' is not supported"),
    ("packed-4", of_weights(num_bits=8), r"holds no 64 x 96 numbers of 8 bits without gaps"),
    ("packed-4", of_weights(group_size=16), r"must have 64 x 6 scales \(groups of 16\)"),
    ("packed-4", of_weights(symmetric=False), r"weight_zero_point' that belongs to it is missing"),
    ("packed-4", of_weights(actorder="group"), r"weight_g_idx' that belongs to it is missing"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: save_quantized(llama(), tmp_path_factory.mktemp(name), FORMS[name])
        for name in {name for name, *_ in SETTINGS} | {"nf4-double"}
    }


@pytest.mark.parametrize(("name", "settings", "problem"), SETTINGS)
def test_settings(
    folders: dict[str, Path], name: str, settings: dict[str, Any], problem: str
) -> None:
    write_settings(folders[name], {**FORMS[name].settings, **settings})
    with pytest.raises(ModelFormatError, match=problem) as refusal:
        open_checkpoint(folders[name])
    assert "\n" not in str(refusal.value)
    assert folders[name].name in str(refusal.value)


def state(**changes: Any) -> Tensor:
    shown = {"blocksize": 64, "shape": [64, 64]} | changes
    return torch.tensor(list(json.dumps(shown).encode()), dtype=torch.uint8)


STATE = "weight.quant_state.bitsandbytes__nf4"
TENSORS = [
    ("fp8-blocks", "weight_scale_inv", None, r"dtype F8_E4M3 is not supported|must have one of"),
    ("fp8-blocks", "weight", torch.zeros(64, 64), r"dtype F32 is not supported; supported are F8"),
    ("fp8-blocks", "weight_scale", torch.ones(1), r"must have one of weight_scale_inv, weight_s"),
    ("modelopt-nvfp4", "weight_scale_2", torch.ones(2), r"must be one number"),
    ("modelopt-nvfp4", "weight_scale", torch.ones(64, 4), r"dtype F32 is not supported"),
    ("nf4", "weight.absmax", torch.ones(63), r"absmax': must have the shape 64, got \[63\]"),
    ("nf4", "weight.absmax", None, r"weight\.absmax' that belongs to it is missing"),
    ("nf4", STATE, None, r"dtype U8 is not supported|SCB' that belongs to it is missing"),
    ("nf4", STATE, state(shape=[64]), r"'shape' must be two sizes above 0"),
    ("nf4", STATE, state(shape=[64, 2]), r"must hold 128 numbers"),
    ("nf4", STATE, state(blocksize=0), r"'blocksize': must be between 1"),
    ("nf4", STATE, torch.zeros(5000, dtype=torch.uint8), r"the limit is 4,096"),
    ("nf4", STATE, torch.full((3,), 255, dtype=torch.uint8), r"is not valid UTF-8"),
    ("nf4-double", "weight.nested_absmax", None, r"nested_absmax' that belongs to it is missing"),
    ("packed-4", "weight_shape", torch.tensor([64, 65]), r"holds no 64 x 65 numbers of 4 bits"),
    ("packed-4", "weight_shape", torch.tensor([64, -1]), r"holds no 64 x -1 numbers"),
]


@pytest.mark.parametrize(("name", "end", "tensor", "problem"), TENSORS)
def test_tensors(
    folders: dict[str, Path], name: str, end: str, tensor: Tensor | None, problem: str
) -> None:
    """None: the tensor is not there."""
    file = folders[name] / "model.safetensors"
    before = file.read_bytes()
    tensors = load_file(file)
    tensors.pop(f"{Q}.{end}", None)
    save_file(tensors | ({} if tensor is None else {f"{Q}.{end}": tensor}), file)
    write_settings(folders[name], FORMS[name].settings)
    try:
        with pytest.raises(ModelFormatError, match=problem):
            load(folders[name])
    finally:
        file.write_bytes(before)


def test_settings_of_modelopt_in_their_own_file(tmp_path: Path) -> None:
    form = FLOAT_FORMS["modelopt-nvfp4"]
    model = llama()
    path = save_quantized(model, tmp_path, form)
    config = json.loads((path / "config.json").read_text())
    del config["quantization_config"]
    (path / "config.json").write_text(json.dumps(config))
    settings = {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}
    (path / "hf_quant_config.json").write_text(json.dumps({"quantization": settings}))
    down = model.model.layers[0].mlp.down_proj.weight
    assert torch.equal(load(path).loaded["blocks.0.mlp.down.weight", None], down)


def test_groups_of_modules(tmp_path: Path) -> None:
    """A name comes before a class, and each group has its own format."""
    wide, narrow = FORMS["int8"], FORMS["packed-4"]

    def encode(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        return (wide if weight.shape == (64, 96) else narrow).encode(weight)  # the last of the MLP

    groups = [form.settings["config_groups"]["group_0"] for form in (narrow, wide)]
    named = groups[1] | {"targets": ["re:.*[.]down_proj$"], "format": "int-quantized"}
    groups = {"group_0": groups[0] | {"format": "pack-quantized"}, "group_1": named}
    settings = {**narrow.settings, "format": "mixed-precision", "config_groups": groups}
    model = llama()
    path = save_quantized(model, tmp_path, type(narrow)(settings, encode, ""))
    down = model.model.layers[0].mlp.down_proj.weight
    assert torch.equal(load(path).loaded["blocks.0.mlp.down.weight", None], down)
    assert open_checkpoint(path).tensor_formats() == {
        "compressed-tensors int4 (groups of 32)": 6,
        "compressed-tensors int8 (by channel)": 1,
        "F32": 5,
    }


def test_roundings_that_are_not_done_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    open_checkpoint(save_quantized(llama(), tmp_path, FORMS["modelopt-fp8"]))
    assert "'quantization_config.kv_cache_quant_algo' is not applied" in caplog.text
