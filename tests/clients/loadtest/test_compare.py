"""Two results side by side: differences are seen, chance is not called one."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from thirdeye.clients.loadtest.cli import app
from thirdeye.clients.loadtest.driver.record import Record
from thirdeye.clients.loadtest.results.compare import compare, differences, ratio_interval
from thirdeye.clients.loadtest.results.stats import summarize


def result(ttft: float, seed: int = 0, num_requests: int = 60, **settings: Any) -> dict[str, Any]:
    """A run of one point whose first tokens take `ttft` seconds, more or less."""
    draws = random.Random(seed)
    records = []
    for at in range(num_requests):
        first = at + ttft * draws.uniform(0.8, 1.2)
        times = [first, first + 0.1]
        records.append(Record(at, at, at, first + 0.1, times, 4, prompt_tokens=9, output_tokens=2))
    point = {"load": "1 user", "concurrency": 1, "rate": None, **summarize(records)}
    return {
        "benchmark": "serve",
        "version": 1,
        "created": "2026-11-22T12:00:00Z",
        "url": "http://127.0.0.1:8000/v1",
        "model": "tiny",
        "client": "2 x x86_64, Python 3.11",
        "settings": settings,
        "saturation": None,
        "points": [point],
    }


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, bool | None]:
    return {change.name: change.is_better for change in compare(before, after)}


def test_a_slower_and_a_quicker_server_are_told() -> None:
    assert verdicts(result(0.2), result(0.3, seed=1))["TTFT p50 ms"] is False
    assert verdicts(result(0.3), result(0.2, seed=1))["TTFT p50 ms"] is True


def test_chance_is_no_change() -> None:
    """Two runs of the same server: no latency is called better or worse."""
    found = verdicts(result(0.2, seed=1), result(0.2, seed=2))
    assert [found[name] for name in ("TTFT p50 ms", "E2E p50 ms")] == [None, None]


def test_few_requests_prove_nothing() -> None:
    few = {"num_requests": 5}
    assert verdicts(result(0.2, **few), result(9.0, **few))["TTFT p50 ms"] is None


def test_the_interval_is_numpys() -> None:
    """The same bootstrap with numpy's medians and quantiles, other draws: close by."""
    draws = random.Random(5)
    before = [draws.lognormvariate(0, 0.3) for _ in range(80)]
    after = [draws.lognormvariate(0.1, 0.3) for _ in range(80)]
    numbers = np.random.default_rng(0)
    medians = [np.median(numbers.choice(x, (2000, 80)), axis=1) for x in (before, after)]
    twin = np.quantile(medians[1] / medians[0], [0.025, 0.975])
    assert ratio_interval(before, after, seed=0) == pytest.approx(tuple(twin), abs=0.05)


def test_only_what_both_have_is_compared() -> None:
    other = result(0.2)
    other["points"][0]["load"] = "2 users"
    assert compare(result(0.2), other) == []


def test_other_settings_are_named() -> None:
    assert differences(result(0.2, seed=1), result(0.2, seed=1, turns=2)) == ["turns"]


def test_the_command(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, ttft in zip(files, (0.2, 0.4), strict=True):
        file.write_text(json.dumps(result(ttft)))
    done = CliRunner().invoke(app, ["compare", *map(str, files)])
    assert done.exit_code == 0, done.output
    assert "TTFT p50 ms" in done.stdout
    assert "2.00" in done.stdout
    missing = CliRunner().invoke(app, ["compare", str(files[0]), str(tmp_path / "c.json")])
    assert missing.exit_code == 1
