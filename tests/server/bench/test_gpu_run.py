"""The one script for a GPU, on a CPU: it runs to its end, leaves out what cannot be, and tells."""

import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu import run as gpu_run
from tests.gpu.run import EIGHT, SMALL, Report, engine, gpu_plans, main
from tests.gpu.tables import GOALS, decision, to_markdown
from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.model_shapes import SHAPES
from thirdeye.server.bench.report import Plan


def test_it_runs_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part at tiny sizes, the GPU's left out with a reason; one line of JSON last."""
    monkeypatch.setattr("thirdeye.server.bench.device.COPY_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr("thirdeye.server.bench.device.MATMUL_SIZE", {"cpu": 64})
    assert main(["--out", str(tmp_path), "--commit", "0abc123"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(summary["parts"]) == {
        *("attention", "engine tiny", "engine tiny, int8", "products", "served tiny"),
    }
    assert summary["left_out"] == {"checks": "this torch build sees no GPU"}
    assert json.loads((tmp_path / "report.json").read_text()) == summary
    told = (tmp_path / "gpu.md").read_text()
    assert told.count("| not measured |") == len(GOALS)
    assert "* checks: this torch build sees no GPU" in told
    assert "commit 0abc123, `python -m tests.gpu.run`" in told


def test_a_broken_part_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that would begin too late."""
    report = Report(time.monotonic(), 60, {})

    def broken() -> None:
        raise ImportError("no module named flashinfer")

    report.part("broken", broken)
    report.part("sound", lambda: 3)
    report.started -= 100
    report.part("late", lambda: 4)
    assert report.parts == {"sound": 3}
    assert report.left_out["broken"] == "ImportError: no module named flashinfer"
    assert report.left_out["late"].startswith("no time left after 100")


def test_a_failed_check_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"passed": [], "failed": {"norm": "AssertionError"}}
    monkeypatch.setattr(gpu_run, "parts", lambda device: [("checks", lambda: found)])
    assert main(["--out", str(tmp_path)]) == 1
    assert "* norm: AssertionError" in (tmp_path / "gpu.md").read_text()


def cell(batch: int, step_ms: float) -> dict[str, float | int]:
    return {
        "batch": batch,
        "context": 512,
        "step_ms": step_ms,
        "tokens_per_second": 1.0,
        "share_of_floor": 0.5,
        "gpu_idle_share": 0.04,
    }


def test_goals_are_found_in_what_the_parts_say() -> None:
    """Each row of the figures' table, from a report in the form that the parts have."""
    attention = {"batch": 64, "context": 1024, "kv_dtype": "bfloat16", "share_of_copy": 0.9}
    workload = {"workload": {"output_tokens_per_second": 8000.0}}
    parts = {
        "engine 8B": {
            "cells": [cell(batch, 6.0) for batch in (1, 8, 64, 256)],
            "prefills": [{"share_of_matmul": 0.61}],
        },
        "engine 8B, deterministic": {"cells": [cell(batch, 6.3) for batch in (1, 8, 64, 256)]},
        "engine 8B, fp8": {"cells": [cell(1, 4.0)]},
        "engine 8B, int4": {"cells": [cell(1, 4.0)]},
        "engine 0.6B": {"cells": [cell(1, 1.0), cell(64, 3.0)]},
        "workload 0.6B": workload,
        "workload 8B": workload,
        "attention": {
            "rows": [
                attention | {"backend": "triton", "bytes_per_second": 96.0},
                attention | {"backend": "flashinfer", "bytes_per_second": 100.0},
            ]
        },
        "served": {"share_of_in_process": 0.97},
    }
    met = {goal.what: goal.row(parts)[-1] for goal in GOALS}
    assert met.pop("nano-vllm workload, 0.6B") == "no"
    assert met.pop("int4, 8B, batch 1") == "no"
    assert met.pop("0.6B, batch 1") == "yes"
    assert met.pop("nano-vllm workload, 8B") == "yes"
    assert met.pop("fp8, 8B, batch 1") == "yes"
    assert {value.partition(",")[0] for value in met.values()} == {"yes"}
    assert met["GPU idle, 0.6B, batch 64"] == "yes"
    report = {
        "device": "x",
        "torch": "2",
        "date": "d",
        "command": "c",
        "commit": "abc",
        "left_out": {},
    }
    told = to_markdown(report | {"parts": parts})
    assert "| engine 8B | 1 | 512 | 6 |" in told
    assert "it costs at most 5.0% at batches 1, 8, 64, 256, so it becomes the default" in told


def test_beyond_is_more_than_reached() -> None:
    """Both columns of the goals, where less is better and where more is."""
    less, more = GOALS[0], GOALS[2]
    found = {"engine 8B": {"cells": [cell(1, 5.5)]}}
    assert less.row(found)[1:] == [
        *("at most 6.4 ms a step; beyond: 5.6", "5.5 ms a step", "yes, and beyond")
    ]
    for value, verdict in ((17_000.0, "no"), (17_300.0, "yes"), (20_200.0, "yes, and beyond")):
        workload = {"workload": {"output_tokens_per_second": value}}
        assert more.row({"workload 0.6B": workload})[-1] == verdict


def test_the_default_is_decided_by_what_it_costs() -> None:
    """At most 10 % at every batch; what was not measured decides nothing."""

    def parts(ms: float) -> dict[str, Any]:
        slow = [*(cell(batch, 6.0) for batch in (1, 8, 64)), cell(256, ms)]
        return {
            "engine 8B": {"cells": [cell(batch, 6.0) for batch in (1, 8, 64, 256)]},
            "engine 8B, deterministic": {"cells": slow},
        }

    assert "becomes the default" in decision(parts(6.59))
    assert decision(parts(6.9)).endswith(
        "it costs at most 15.0% at batches 1, 8, 64, 256, more than 10 %, so it stays a mode."
    )
    assert "not measured" in decision({"engine 8B": parts(6.0)["engine 8B"]})


def test_every_part_that_a_goal_needs_is_run() -> None:
    """By name: a part that was renamed would leave its goals unmeasured for ever."""
    assert {"engine 8B", "engine 0.6B", "workload 0.6B", "workload 8B"} <= set(gpu_plans())
    assert {"engine 8B, fp8", "engine 8B, int4", "engine 8B, deterministic"} <= set(gpu_plans())
    assert gpu_plans()["engine 8B"]["prefills"] == [8192]
    assert "served" in [name for name, _ in gpu_run.parts(torch.device("cuda"))]
    known = {field.name for field in fields(Plan)}
    assert all(set(plan) <= known for plan in gpu_plans().values())


def test_every_plan_runs_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lent GPU's time is short: lengths and options of each measurement, with the steps that run
    ahead, are tried here in a narrow model. What only a GPU keeps is left out, batches are few."""
    torch.set_num_threads(1)
    monkeypatch.setattr("thirdeye.server.bench.device.MATMUL_SIZE", {"cpu": 64})
    for shape in (EIGHT, SMALL):
        monkeypatch.setitem(SHAPES, shape, narrow(SHAPES[shape]))
    on_a_gpu = ("quantize", "kv_dtype")
    for name, asked in gpu_plans().items():
        fewer = {key: value for key, value in asked.items() if key not in on_a_gpu}
        fewer["batches"] = asked.get("batches", [])[:2]
        fewer["workload"] = min(2, asked.get("workload", 0))
        report = engine(**({"cuda_graphs": "on", "steps": 4, "bandwidth": 1e9} | fewer))
        assert len(report["cells"]) == len(fewer["batches"]) * len(asked.get("contexts", []))
        assert [prefill["tokens"] for prefill in report["prefills"]] == asked.get("prefills", [])
        assert (report["workload"] is not None) == ("workload" in asked), name


def narrow(shape: ModelConfig) -> ModelConfig:
    """The same positions, one layer of few channels."""
    assert shape.rope is not None
    return replace(
        shape,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        rope=replace(shape.rope, dim=16),
    )
