"""Whatever stands in the settings of a quantization or in its tensors: read, or refused."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.draws import also_at_night, count
from tests.weights.formats.quantized.compressed_forms import COMPRESSED_FORMS
from tests.weights.formats.quantized.float_forms import FLOAT_FORMS
from tests.weights.formats.quantized.forms import save_quantized, write_settings
from tests.weights.formats.quantized.integer_forms import INTEGER_FORMS
from tests.weights.formats.quantized.test_quantized_models import llama
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

FORMS = INTEGER_FORMS | FLOAT_FORMS | COMPRESSED_FORMS
TRIED = ("gptq-4-ordered", "awq", "fp8-blocks", "modelopt-nvfp4", "nf4-double", "packed-4-zeros")
NUM_TRIED = count(24, 240)
VALUES = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**70, 0.5, 1e308, "", "x", "re:(", "re:(a+)+", "*"),
    *([], [None], [0, 0], [1, 2], ["x"], {}, {"x": 1}, {"format": "dense"}, {"group_0": {}}),
)


def mutated(value: Any, chance: random.Random) -> Any:
    """The same with one value in it, however deep, another."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        return {**value, key: mutated(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.5:
        place = chance.randrange(len(value))
        return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]
    return chance.choice(VALUES)


def read(path: Path) -> None:
    for _ in open_checkpoint(path).tensors():
        pass


@also_at_night
@pytest.mark.parametrize("name", TRIED)
def test_mutated_settings(tmp_path: Path, name: str) -> None:
    path = save_quantized(llama(), tmp_path, FORMS[name])
    chance = random.Random(name)
    refused = 0
    for _ in range(NUM_TRIED):
        settings = mutated(dict(FORMS[name].settings), chance)
        write_settings(path, settings if isinstance(settings, dict) else {"quant_method": settings})
        try:
            read(path)
        except ModelFormatError:
            refused += 1
    assert refused > NUM_TRIED // 6


@also_at_night
@pytest.mark.parametrize("name", TRIED)
def test_mutated_tensors(tmp_path: Path, name: str) -> None:
    """Another dtype, another shape, other bytes, or none at all."""
    path = save_quantized(llama(), tmp_path, FORMS[name])
    file, chance = path / "model.safetensors", random.Random(name)
    tensors = load_file(file)
    parts = sorted(end for end in tensors if ".q_proj." in end)
    dtypes = (torch.uint8, torch.int32, torch.float16, torch.float8_e4m3fn, torch.int64)
    file.unlink()
    for i in range(NUM_TRIED):
        part = chance.choice(parts)
        other = tensors[part].reshape(-1).view(torch.uint8).clone()
        other[chance.randrange(len(other))] = chance.randrange(256)
        size = len(other) // 8 * 8
        if chance.random() < 0.7:
            other = other[:size].view(chance.choice(dtypes))
        else:
            other = other.view(tensors[part].dtype).reshape(tensors[part].shape)
        if chance.random() < 0.3 and other.numel() % 2 == 0:
            other = other.reshape(2, -1)
        kept = {end: tensor for end, tensor in tensors.items() if end != part}
        save_file(kept | ({part: other} if i % 5 else {}), file)
        try:
            read(path)
        except ModelFormatError:
            continue
