"""A GGUF file's settings: each changes the model or is refused, and so is one that nobody knows."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.architectures.conftest import Written
from tests.architectures.table import CASES
from thirdeye.model.config import ModelConfig
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.gguf import gguf_checkpoint
from thirdeye.weights.formats.gguf.metadata_keys import HARMLESS
from thirdeye.weights.formats.gguf.reader import GGUFFile
from thirdeye.weights.formats.gguf.split import open_gguf

WRITTEN = [name for name, case in CASES.items() if case.gguf]
Reopen = Callable[[Path, dict[str, Any]], ModelConfig]


@cache
def as_written(path: Path) -> GGUFFile:
    """Read once, however often its settings are changed."""
    return open_gguf(path)


@pytest.fixture
def reopen(monkeypatch: pytest.MonkeyPatch) -> Reopen:
    """A file's config, as if its metadata had said something else."""

    def config(path: Path, changes: dict[str, Any]) -> ModelConfig:
        file = as_written(path)
        other = replace(file, metadata={**file.metadata, **changes})
        monkeypatch.setattr(gguf_checkpoint, "open_gguf", lambda _: other)
        return open_checkpoint(path).config

    return config


@pytest.mark.parametrize("name", WRITTEN)
def test_every_setting_matters(written: Written, reopen: Reopen, name: str) -> None:
    path = written(name)[2]
    assert path is not None
    metadata = as_written(path).metadata
    prefix = f"{metadata['general.architecture']}."
    before = reopen(path, {})
    for key in (key for key in metadata if key.startswith(prefix)):
        for other in changed(metadata[key]):
            with suppress(ModelFormatError):  # refused
                is_other = reopen(path, {key: other}) != before
                assert is_other or key.removeprefix(prefix) in HARMLESS, key


def changed(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value * 3] if value else []  # nothing stays nothing
    return [np.logical_not(value)] if getattr(value, "dtype", None) == np.bool_ else []


@pytest.mark.parametrize("name", WRITTEN)
def test_an_unknown_setting_is_refused_by_name(written: Written, reopen: Reopen, name: str) -> None:
    path = written(name)[2]
    assert path is not None
    key = f"{as_written(path).metadata['general.architecture']}.attention.of_tomorrow"
    with pytest.raises(ModelFormatError, match=f"'{key}': is a setting that is not known here"):
        reopen(path, {key: 3})
    assert reopen(path, {key: 0}) == reopen(path, {})  # switched off


def test_the_magnitude_of_yarn_may_stand_in_the_file(written: Written, reopen: Reopen) -> None:
    path = written("llama-yarn")[2]
    assert path is not None
    key = "llama.rope.scaling.yarn_attn_factor"
    usual = 0.1 * math.log(4) + 1
    assert reopen(path, {key: usual}) == reopen(path, {})
    for other in (1.0, 1.3):
        with pytest.raises(ModelFormatError, match=r"rope\.scaling\.yarn_attn_factor"):
            reopen(path, {key: other})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.attn_factor", 1.5),
        ("attention.scale", 0.5),
        ("logit_scale", 2.0),
        ("attention.temperature_scale", 0.1),
        ("nextn_predict_layers", 1),
        ("rope.dimension_sections", [8, 8, 0, 0]),
    ],
)
def test_what_others_have_is_refused(
    written: Written, reopen: Reopen, key: str, value: Any
) -> None:
    path = written("llama")[2]
    assert path is not None
    with pytest.raises(ModelFormatError, match=key):
        reopen(path, {f"llama.{key}": value})
