"""A null in config.json means what transformers' class makes of it: its default, or no value."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from tests.architectures.walk.test_settings import READERS
from tests.draws import also_at_night, is_night
from thirdeye.model.config import ModelConfig
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

OFTEN = ("head_dim", "num_key_value_heads", "sliding_window")  # in files of the hub
EXCEPTIONS = {
    # transformers takes null for heads that are all alike, and writes it as no key, which says
    # otherwise to itself.
    "gemma4_text": {"per_layer_config"},
    "gemma4_unified_text": {"per_layer_config"},
}


def read(model_type: str, settings: dict[str, Any]) -> ModelConfig | None:
    try:
        return READERS[model_type].huggingface_config(Fields(Path("config.json"), settings))
    except ModelFormatError:
        return None


@also_at_night
@pytest.mark.parametrize("model_type", READERS)
def test_null(model_type: str) -> None:
    """What transformers refuses is not asked; at night every setting of the class is null once."""
    theirs: Any = CONFIG_MAPPING[model_type]
    plain = json.loads(theirs().to_json_string(use_diff=False))
    # gpt-oss must say how it turns: its class has a default that no published model has.
    needed = {"rope_parameters": plain["rope_parameters"]} if model_type == "gpt_oss" else {}
    keys = plain.keys() if is_night() else plain.keys() & {*OFTEN}
    for key in keys - {"model_type"} - needed.keys() - EXCEPTIONS.get(model_type, set()):
        settings = needed | {"model_type": model_type, key: None}
        try:
            rewritten = theirs.from_dict(settings).to_json_string(use_diff=False)
        except Exception:
            continue
        expected = read(model_type, json.loads(rewritten))
        assert expected is None or read(model_type, settings) == expected, key
