"""Settings of models with Mamba-2's layers as files older than transformers 5 have them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.architectures.states.mamba_cases import MAMBA
from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.directory import parse_object
from thirdeye.weights.formats.fields import Fields

CONFIG = Path("config.json")


def settings(name: str) -> dict[str, Any]:
    found: dict[str, Any] = MAMBA[name].make().config.to_dict()
    return found


def read(values: dict[str, Any]) -> ModelConfig:
    """Through the text of a file, as Python writes it."""
    fields = Fields(CONFIG, parse_object(CONFIG, json.dumps(values)))
    return by_model_type(fields).huggingface_config(fields)


@pytest.mark.parametrize("name", ["granitemoehybrid", "falcon_h1", "nemotron_h"])
def test_no_limit_of_steps_is_written_in_three_ways(name: str) -> None:
    before = settings(name)
    key = "time_step_limit"
    ways = [[0.0, math.inf], [0, "Infinity"], [0.0, {"__float__": "Infinity"}]]
    first, *others = [read(before | {key: way}) for way in ways]
    assert others == [first, first]
    for limits in ([0.0, 1.0], [0.001, math.inf]):
        with pytest.raises(ModelFormatError, match=f"'{key}': cuts the steps of a state"):
            read(before | {key: limits})
    with pytest.raises(ModelFormatError, match=f"'{key}': must be two numbers"):
        read(before | {key: [math.inf]})


def test_no_number_is_infinite() -> None:
    with pytest.raises(ModelFormatError, match="'rms_norm_eps': must be a number"):
        read(settings("falcon_h1") | {"rms_norm_eps": math.inf})


def test_kinds_of_layers_by_letters() -> None:
    before = settings("nemotron_h-mixed")
    kinds = before.pop("layers_block_type", None) or before.pop("layer_types")
    before.pop("layer_types", None)
    letters = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}
    pattern = "".join(letters[kind] for kind in kinds)
    key = "hybrid_override_pattern"
    assert read(before | {key: pattern}) == read(before | {"layers_block_type": kinds})
    with pytest.raises(ModelFormatError, match=f"'{key}': must be letters of M"):
        read(before | {key: "M*X"})
    for none in ("M*M", "M-M"):
        with pytest.raises(ModelFormatError, match="leaves no layer"):
            read(before | {key: none})


def test_heads_must_fill_their_width() -> None:
    with pytest.raises(ModelFormatError, match="'mamba_d_head': must be 96 by 5"):
        read(settings("granitemoehybrid") | {"mamba_n_heads": 5})
