"""The one script for a GPU, on a CPU: it runs to its end, leaves out what cannot be, and tells."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu import part
from tests.gpu import parts as gpu_parts
from tests.gpu.parts import EIGHT, SMALL, engine, gpu_plans
from tests.gpu.tables import GOALS, decision, to_markdown
from tests.gpu.timings import OURS_FOR_FEW_ROWS
from thirdeye.model.config import ModelConfig
from thirdeye.server.bench.model_shapes import SHAPES
from thirdeye.server.bench.report import Plan

REPORT = {"device": "x", "torch": "2", "date": "d", "command": "c", "commit": "a", "left_out": {}}


def test_it_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part at tiny sizes, each as its own process would run it; and as a report."""
    torch.set_num_threads(1)
    monkeypatch.setattr("thirdeye.server.bench.device.COPY_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr("thirdeye.server.bench.device.MATMUL_SIZE", {"cpu": 64})
    known = {}
    for name in gpu_parts.parts():
        file = tmp_path / f"{name}.json"
        assert part.main(["tests.gpu.parts", name, str(file)]) == 0
        findings = part.Findings.read(file)
        assert findings.error is None
        known[name] = findings.found
    assert set(known) == {
        *("attention", "engine tiny", "engine tiny, int8", "products", "served tiny"),
    }
    report = REPORT | {"parts": known, "left_out": gpu_parts.absent()}
    told = to_markdown(report)
    assert told.count("| not measured |") == len(GOALS)
    assert "* checks: this torch build sees no GPU" in told


def cell(batch: int, step_ms: float, share: float = 0.5) -> dict[str, float | int]:
    return {
        "batch": batch,
        "context": 512,
        "step_ms": step_ms,
        "tokens_per_second": 1.0,
        "share_of_floor": share,
        "gpu_idle_share": 0.04,
    }


def test_goals_are_found_in_what_the_parts_say() -> None:
    """Each row of the figures' table, from a report in the form that the parts have."""
    attention = {"batch": 64, "context": 1024, "kv_dtype": "bfloat16", "share_of_copy": 0.9}
    workload = {"workload": {"share_of_floor": 0.62}}
    parts = {
        "engine 8B": {
            "cells": [cell(batch, 6.0, 0.8) for batch in (1, 8, 64, 256)],
            "prefills": [{"share_of_matmul": 0.61}],
        },
        "engine 8B, deterministic": {"cells": [cell(batch, 6.3) for batch in (1, 8, 64, 256)]},
        "engine 8B, fp8": {"cells": [cell(1, 4.0)]},
        "engine 8B, int4": {"cells": [cell(1, 4.0)]},
        "engine 0.6B": {"cells": [cell(1, 1.0), cell(64, 3.0)]},
        "engine 0.6B, profiled": {"cells": [cell(1, 1.0), cell(64, 3.0)]},
        "workload 0.6B": workload,
        "workload 8B": workload,
        "attention": {
            "rows": [
                attention | {"backend": "triton", "bytes_per_second": 96.0},
                attention | {"backend": "flashinfer", "bytes_per_second": 100.0},
            ]
        },
        "served": {"share_of_in_process": 0.97},
        "products": [
            {"rows": rows, "method": method, "us": us}
            for rows in (1, 8)
            for method, us in ((OURS_FOR_FEW_ROWS, 24.0), ("dense", 25.0), ("int8", 9.0))
        ],
    }
    met = {goal.what: goal.row(parts)[-1] for goal in GOALS}
    assert met.pop("nano-vllm workload, 0.6B") == "no"
    assert met.pop("int4, 8B, batch 1") == "no"
    assert met.pop("0.6B, batch 1") == "yes"
    assert met.pop("nano-vllm workload, 8B") == "yes"
    assert met.pop("fp8, 8B, batch 1") == "yes"
    assert {value.partition(",")[0] for value in met.values()} == {"yes"}
    assert met["GPU idle, 0.6B, batch 64"] == "yes"
    told = to_markdown(REPORT | {"parts": parts})
    assert "| engine 8B | 1 | 512 | 6 |" in told
    assert "it costs at most 5.0% at batches 1, 8, 64, 256, so it becomes the default" in told


def test_beyond_is_more_than_reached() -> None:
    """Both columns of the goals, where less is better and where more is."""
    less = next(goal for goal in GOALS if goal.is_less_better)
    idle = {"engine 0.6B, profiled": {"cells": [cell(64, 5.5) | {"gpu_idle_share": 0.015}]}}
    assert less.row(idle)[1:] == [
        *("at most 0.05 of a step; beyond: 0.02", "0.015 of a step", "yes, and beyond")
    ]
    for share, verdict in ((0.77, "no"), (0.78, "yes"), (0.9, "yes, and beyond")):
        found = {"engine 8B": {"cells": [cell(1, 5.5, share)]}}
        assert GOALS[0].row(found)[-1] == verdict


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
    profiled = [name for name, plan in gpu_plans().items() if plan.get("is_profiled")]
    assert profiled == ["engine 0.6B, profiled"]  # a process of its own: what is timed is not
    assert "served" in dict(gpu_parts.on_gpu())
    known = {field.name for field in fields(Plan)}
    assert all(set(plan) <= known for plan in gpu_plans().values())


def test_every_plan_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        findings = part.Findings(tmp_path / "part.json", {})
        engine(**({"cuda_graphs": "on", "steps": 4, "bandwidth": 1e9} | fewer))(findings)
        report = findings.found
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
