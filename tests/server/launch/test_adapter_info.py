"""`thirdeye info` of an adapter's folder."""

import re
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_llama
from tests.weights.adapters.peft_folder import write_adapter
from thirdeye.server.launch.commands.info_command import show_info

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
FACTORS = {
    Q: (torch.ones(4, 64), torch.ones(64, 4)),
    DOWN: (torch.ones(2, 128), torch.ones(64, 2)),
}


def info(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = show_info(str(path))
    shown = capsys.readouterr()
    return status, re.sub(r"\s+", " ", shown.out + shown.err)


def test_what_it_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_llama(tmp_path / "tiny")
    more = {"rank_pattern": {"down_proj": 2}, "base_model_name_or_path": str(tmp_path / "tiny")}
    path = write_adapter(tmp_path / "poet", FACTORS, **more)
    status, shown = info(path, capsys)
    assert status == 0
    assert "rank 4 in 1 modules, 2 in 1 modules scale 2, 4" in shown
    assert "modules 1 down_proj, 1 q_proj parameters 896 memory 0.00 MB in float32" in shown
    assert "serves: yes, on tiny" in shown


def test_one_that_does_not_fit_its_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_llama(tmp_path / "tiny")
    factors = {Q: (torch.ones(4, 63), torch.ones(64, 4))}
    base = str(tmp_path / "tiny")
    path = write_adapter(tmp_path / "poet", factors, base_model_name_or_path=base)
    status, shown = info(path, capsys)
    assert status == 1
    assert "serves: no, not on tiny" in shown
    assert "must have the shape [4, 64], got [4, 63]" in shown


def test_one_whose_base_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_adapter(tmp_path / "poet", {Q: FACTORS[Q]}, base_model_name_or_path="org/gone")
    status, shown = info(path, capsys)
    assert status == 0
    assert "the one it was made for is not here" in shown
    status, shown = info(write_adapter(tmp_path / "dora", {Q: FACTORS[Q]}, use_dora=True), capsys)
    assert status == 1
    assert "'use_dora': is not supported" in shown
