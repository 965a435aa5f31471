"""What the server's process makes of a checkpoint's files: defaults, templates, turn ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_llama
from thirdeye.server.launch.opened_model import OpenedModel, open_model
from thirdeye.server.launch.server_run import defaults_line
from thirdeye.server.settings.read_settings import read_settings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tiny_llama(tmp_path)
    return tmp_path


def opened(checkpoint: Path, **flags: Any) -> OpenedModel:
    return open_model(read_settings({"model": str(checkpoint), **flags}).checkpoint)


def test_suggestions_are_taken_unless_switched_off(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suggested = {"temperature": 0.6, "top_k": 20, "max_new_tokens": 99, "num_beams": 4}
    (checkpoint / "generation_config.json").write_text(json.dumps(suggested))
    model = opened(checkpoint)
    assert model.defaults.said() == {"temperature": 0.6, "top_k": 20, "max_tokens": 99}
    assert "num_beams, which are not obeyed here" in caplog.text
    (line,) = defaults_line(model.defaults)
    assert line.endswith("as the model suggests: temperature 0.6, top_k 20, max_tokens 99")
    ignoring = opened(checkpoint, generation_config="none")
    assert ignoring.defaults.said() == {}
    assert defaults_line(ignoring.defaults) == []
