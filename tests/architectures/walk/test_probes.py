"""A setting that is changed changes our logits as it does transformers', or is refused by name.

One model of each class. A push tries one of each, `-m prove` all: that finds what is read and
yet not obeyed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.architectures.cases import randomize
from tests.architectures.conftest import Written
from tests.architectures.running import load, logits
from tests.architectures.test_architectures import TOKENS, theirs_of
from tests.architectures.walk.harmless import harmless
from tests.architectures.walk.probes import NOT_PROBED, Change, changed, changes, shown
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.errors import ModelFormatError

MODEL_TYPES = [name for found in ARCHITECTURES for name in found.model_types]
FEW = 1  # of each class at a push
IDS = TOKENS[:32]


def outcome(config: dict[str, Any], folder: Path) -> str:
    """ "equal", "refused", or how far ours are from theirs; "impossible" if transformers cannot."""
    folder.mkdir()
    text = json.dumps(config)
    (folder / "config.json").write_text(text)
    try:
        kind = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(kind, attn_implementation="eager").eval()
        randomize(model)
        theirs = theirs_of(model, IDS)
        model.save_pretrained(folder)
    except Exception:  # whatever it says of such a model, there is none
        return "impossible"
    (folder / "config.json").write_text(text)
    try:
        ours = logits(load(folder), IDS)
    except ModelFormatError:
        return "refused"
    far = (ours - theirs).abs().max().item() if ours.shape == theirs.shape else float("inf")
    return "equal" if far < 1e-3 else f"{far:.2g} apart"


def tried(model_type: str, written: Written) -> tuple[dict[str, Any], list[Change]]:
    config = json.loads((written(model_type)[1] / "config.json").read_text())
    quiet = harmless(model_type) | {key for name, key in NOT_PROBED if name == model_type}
    return config, [change for change in changes(config) if not change.keys() <= quiet]


def wrong(config: dict[str, Any], some: list[Change], folder: Path) -> dict[str, str]:
    found = {}
    for number, change in enumerate(some):
        result = outcome(changed(config, change), folder / str(number))
        if result.endswith("apart"):
            found[shown(change)] = result
    return found


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_few_settings_changed(written: Written, model_type: str, tmp_path: Path) -> None:
    """Other ones in each class, so that all of them together try much."""
    config, all_ = tried(model_type, written)
    start = MODEL_TYPES.index(model_type)
    some = [all_[(start + 17 * n) % len(all_)] for n in range(FEW)]
    assert wrong(config, some, tmp_path) == {}


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_setting_changed(written: Written, model_type: str, tmp_path: Path) -> None:
    config, all_ = tried(model_type, written)
    assert wrong(config, all_, tmp_path) == {}


def test_an_unchanged_file_is_possible(written: Written, tmp_path: Path) -> None:
    """The probe itself: a model that it takes apart and puts together is equal; one that says
    something else to us than to transformers is seen."""
    config = json.loads((written("llama")[1] / "config.json").read_text())
    assert outcome(config, tmp_path / "same") == "equal"
    assert outcome(config | {"quantization_config": {}}, tmp_path / "refused") == "refused"
    assert outcome(config | {"num_attention_heads": 0}, tmp_path / "none") == "impossible"
    torch.manual_seed(0)
    other = config | {"rms_norm_eps": 0.9}
    assert outcome(other, tmp_path / "other") == "equal"
