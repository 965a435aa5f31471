"""Settings as authors publish them say what they say after transformers has written them anew.

Authors write older names, nulls, numbers as flags and settings of their own code; transformers
writes its own names and every default. The other tests read what transformers wrote.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.registry import by_model_type
from thirdeye.weights.architectures.wrappers.text_part import text_part
from thirdeye.weights.formats.fields import Fields

LINES = Path(__file__).with_name("published.jsonl").read_text().splitlines()
PUBLISHED: dict[str, dict[str, Any]] = {(one := json.loads(line))["name"]: one for line in LINES}


def read(settings: dict[str, Any]) -> ModelConfig:
    text = text_part(Fields(Path("config.json"), settings)).fields
    return by_model_type(text).huggingface_config(text)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_and_rewritten_alike(name: str) -> None:
    """`rewritten_from`: what transformers refuses to read as it is published."""
    published = PUBLISHED[name]
    settings = published["settings"]
    readable = settings | published.get("rewritten_from", {})
    theirs = CONFIG_MAPPING[readable["model_type"]].from_dict(readable)
    assert read(settings) == read(json.loads(theirs.to_json_string(use_diff=False)))
