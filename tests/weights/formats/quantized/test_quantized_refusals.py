"""What is not read exactly is refused, in one line that names the method or the tensor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.weights import tiny
from tests.weights.formats.quantized.forms import Form, save_quantized, write_settings
from tests.weights.formats.quantized.integer_forms import awq_form, gptq_form
from tests.weights.formats.quantized.test_quantized_models import llama
from tests.weights.sinks import RecordingSink
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.quantized.unnamed_method import without_settings
from thirdeye.weights.formats.safetensors import ShardEntry
from thirdeye.weights.load import load_weights

Q = "model.layers.0.self_attn.q_proj"
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def gptq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_quantized(llama(), tmp_path_factory.mktemp("gptq"), gptq_form(4, 32))


def changed(
    folder: Path,
    to: Path,
    settings: dict[str, Any] | None = None,
    change: Callable[[Tensors], object] | None = None,
) -> Path:
    """The same checkpoint with other settings, or other tensors."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= settings or {}
    (to / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    if change is not None:
        change(tensors)
    save_file(tensors, to / "model.safetensors")
    return to


def load(path: Path) -> RecordingSink:
    checkpoint = open_checkpoint(path)
    sink = RecordingSink(checkpoint.config)
    load_weights(checkpoint, sink)
    return sink


def test_settings_of_the_text_part_alone(gptq: Path, tmp_path: Path) -> None:
    """As Kimi K2.5 has them: the whole's own say nothing of it."""
    text = json.loads((gptq / "config.json").read_text())
    whole = {"model_type": "llava", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    tensors = load_file(gptq / "model.safetensors")
    save_file(
        {f"language_model.{k}": v for k, v in tensors.items()}, tmp_path / "model.safetensors"
    )
    plain, wrapped = load(gptq).loaded, load(tmp_path).loaded
    assert plain.keys() == wrapped.keys()
    assert all(torch.equal(plain[key], wrapped[key]) for key in plain)


SETTINGS = {
    "bits": ({"bits": 5}, r"'quantization_config\.bits': 5 is not supported; supported are 2, 3"),
    "no bits": ({"bits": None}, r"'quantization_config\.bits': is required"),
    "no group": ({"group_size": 0}, r"group_size': must be above 0, or -1"),
    "another group": ({"group_size": 16}, r"down_proj\.qzeros': must have the shape 6 x 8, got"),
    "format": ({"checkpoint_format": "marlin"}, r"'marlin' is not supported; supported are gptq"),
    "words": ({"pack_dtype": "int16"}, r"pack_dtype': is not supported \(value 'int16'\)"),
    "rotated": ({"rotation": "hadamard"}, r"rotation': is not supported"),
    "skipped": ({"modules_to_not_convert": ["q_proj"]}, r"the settings say that its module is not"),
    "a rule to skip": ({"dynamic": {r"-:.*\.q_proj": {}}}, r"say that its module is not"),
    "a rule's bits": ({"dynamic": {r"+:.*\.q_proj": {"bits": 8}}}, r"must have the shape"),
    "a slow rule": ({"dynamic": {r"-:(a+)+$": {}}}, r"repeats too much in '\(a\+\)\+\$'"),
    "no expression": ({"dynamic": {"-:(": {}}}, r"'\(' is no regular expression"),
    "unknown": (
        {"quant_method": "hqq"},
        r"quant_method': 'hqq' is not supported; supported are gptq, awq.* or a GGUF file of it\.$",
    ),
    "nameless": ({"quant_method": None}, r"quant_method': '' is not supported"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(gptq: Path, tmp_path: Path, case: str) -> None:
    settings, problem = SETTINGS[case]
    with pytest.raises(ModelFormatError, match=problem) as refusal:
        open_checkpoint(changed(gptq, tmp_path, settings))
    assert "\n" not in str(refusal.value)


def test_mlx_is_told_by_its_name(gptq: Path, tmp_path: Path) -> None:
    """It writes its settings twice, and no method's name."""
    path = changed(gptq, tmp_path, {})
    config = json.loads((path / "config.json").read_text())
    settings = {"group_size": 64, "bits": 4}
    config |= {"quantization": settings, "quantization_config": settings}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match=r"'quantization': is MLX's.* or a GGUF file of it"):
        open_checkpoint(path)


def put(name: str, tensor: Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: tensor})


TENSORS = {
    "no scales": (lambda t: t.pop(f"{Q}.scales"), rf"'{Q}\.scales' that belongs to it is missing"),
    "dtype": (put(f"{Q}.qweight", torch.zeros(8, 64)), r"qweight': dtype F32 is not supported"),
    "shape": (put(f"{Q}.qweight", torch.zeros(8, dtype=torch.int32)), r"the shape any x any, got"),
    "odd": (put(f"{Q}.qweight", torch.zeros(8, 60, dtype=torch.int32)), r"multiples of 32"),
    "twice": (put(f"{Q}.weight", torch.zeros(64, 64)), rf"'{Q}\.weight', which is there too"),
    "group": (
        put(f"{Q}.g_idx", torch.full((64,), 2, dtype=torch.int32)),
        r"'g_idx' must be between 0 and 1",
    ),
    "group below": (
        put(f"{Q}.g_idx", torch.full((64,), -1, dtype=torch.int32)),
        r"'g_idx' must be between 0 and 1",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(gptq: Path, tmp_path: Path, case: str) -> None:
    change, problem = TENSORS[case]
    with pytest.raises(ModelFormatError, match=problem):
        load(changed(gptq, tmp_path, change=change))


def test_a_matrix_of_another_shape(gptq: Path, tmp_path: Path) -> None:
    """Well packed, but not of this model."""

    def change(tensors: Tensors) -> None:
        for end in ("qweight", "qzeros", "scales"):
            tensors[f"{Q}.{end}"] = torch.cat([tensors[f"{Q}.{end}"]] * 2, dim=1)

    with pytest.raises(ModelFormatError, match=r"must have the shape \[64, 64\], got \[128, 64\]"):
        load(changed(gptq, tmp_path, change=change))


def test_order_that_is_missing(tmp_path: Path) -> None:
    path = save_quantized(llama(), tmp_path, gptq_form(4, 32, ordered=True))
    tensors = load_file(path / "model.safetensors")
    del tensors[f"{Q}.g_idx"]
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(ModelFormatError, match=rf"'{Q}\.g_idx' that belongs to it is missing"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"version": "gemv"}, r"version': 'gemv' is not supported; supported is gemm"),
        ({"bits": 8}, r"bits': 8 is not supported; supported is 4"),
        ({"zero_point": False}, r"zero_point': is not supported"),
        ({"modules_to_not_convert": ["q_proj"]}, r"the settings say that its module is not"),
        ({"modules_to_not_convert": "lm_head"}, r"must be a list of strings"),
    ],
)
def test_awq(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    path = save_quantized(llama(), tmp_path, awq_form(32))
    write_settings(path, {**awq_form(32).settings, **settings})
    with pytest.raises(ModelFormatError, match=problem):
        open_checkpoint(path)


def test_settings_in_a_file_of_their_own(gptq: Path, tmp_path: Path) -> None:
    """As AutoGPTQ left them."""
    changed(gptq, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    settings = config.pop("quantization_config")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelFormatError, match=r"dtype I32 .*looks quantized \(GPTQ\), but .*quantiz"
    ):
        load(tmp_path)
    settings = {key: settings[key] for key in ("bits", "group_size", "desc_act", "sym")}
    (tmp_path / "quantize_config.json").write_text(json.dumps(settings))
    assert load(tmp_path).loaded.keys() == load(gptq).loaded.keys()


LOOKS = {
    "AWQ": ({".qweight": (8, 2), ".qzeros": (1, 2), ".scales": (1, 16)}, "I32"),
    "GPTQ": ({".qweight": (2, 16), ".qzeros": (1, 2), ".scales": (1, 16)}, "I32"),
    "compressed-tensors": ({".weight_packed": (16, 2), ".weight_scale": (16, 1)}, "I32"),
    "modelopt": ({".weight": (16, 8), ".weight_scale": (16, 1), ".weight_scale_2": ()}, "U8"),
    "bitsandbytes": ({".weight": (64, 1), ".weight.absmax": (2,)}, "U8"),
    "FP8 in blocks": ({".weight": (16, 16), ".weight_scale_inv": (1, 1)}, "F8_E4M3"),
    "MXFP4": ({"_blocks": (2, 8, 1, 16), "_scales": (2, 8, 1)}, "U8"),
    "MLX": ({".weight": (16, 2), ".scales": (16, 1), ".biases": (16, 1)}, "U32"),
}


@pytest.mark.parametrize("method", LOOKS)
def test_tensors_without_settings(method: str) -> None:
    """The dtype alone says nothing to whoever copied a directory by halves."""
    shapes, dtype = LOOKS[method]
    tensors = {
        f"a.b{end}": ShardEntry(f"a.b{end}", Path(), "F32" if n else dtype, shape, 0, 0)
        for n, (end, shape) in enumerate(shapes.items())
    }
    said = [without_settings(entry, tensors) for entry in tensors.values()]
    assert method in said[0]
    assert said[1:] == [""] * (len(tensors) - 1)
    alone = next(iter(tensors.values()))
    assert without_settings(alone, {}) == ""


def test_every_refusal_says_what_works(gptq: Path, tmp_path: Path) -> None:
    for case in ("bits", "format", "words", "rotated", "a slow rule", "unknown"):
        with pytest.raises(ModelFormatError, match=r"unquantized.* or a GGUF file of it\.$"):
            open_checkpoint(changed(gptq, tmp_path, SETTINGS[case][0]))


def test_one_module_in_more_bits(tmp_path: Path) -> None:
    """What `dynamic` is for."""
    four, eight = gptq_form(4, 32), gptq_form(8, 32)

    def encode(weight: Tensor) -> tuple[Tensors, Tensor]:
        return (eight if weight.shape == (64, 96) else four).encode(weight)  # the last of the MLP

    rules = {"-:lm_head": {}, r"+:.*\.down_proj$": {"bits": 8}}
    form = Form({**four.settings, "dynamic": rules}, encode, four.shown)
    model = llama()
    path = save_quantized(model, tmp_path, form)
    found = load(path).loaded["blocks.0.mlp.down.weight", None]
    assert torch.equal(found, model.model.layers[0].mlp.down_proj.weight)
    assert open_checkpoint(path).tensor_formats() == {
        "GPTQ 4 bit (groups of 32)": 6, "GPTQ 8 bit (groups of 32)": 1, "F32": 5,
    }  # fmt: skip


def test_a_head_of_its_own_is_kept_beside_tied_embeddings(tmp_path: Path) -> None:
    """A quantized head is nobody's table."""
    form = gptq_form(4, 32)
    model = llama()
    settings = {**form.settings, "lm_head": True}
    path = save_quantized(model, tmp_path, Form(settings, form.encode, form.shown, skipped=()))
    config = json.loads((path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (path / "config.json").write_text(json.dumps(config))
    assert torch.equal(load(path).loaded["lm_head.weight", None], model.lm_head.weight)


def test_layers_that_are_kept_the_other_way_round(tmp_path: Path) -> None:
    """GPT-2's matrices are [in, out] in its files, and [out, in] to whoever quantizes them."""
    model = tiny.gpt2()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "transformer.h.0.mlp.c_fc"
    form = gptq_form(4, 32)
    parts, dense = form.encode(tensors.pop(f"{name}.weight").t())
    tensors |= {f"{name}.{end}": part.contiguous().clone() for end, part in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    write_settings(tmp_path, form.settings)
    assert torch.equal(load(tmp_path).loaded["blocks.0.mlp.up.weight", None], dense)
