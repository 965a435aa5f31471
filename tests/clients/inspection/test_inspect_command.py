"""`thirdeye inspect` over the fake engine: a table, a file of JSON, a picture."""

import io
import json
import math
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

from tests.api.support import fake_engine, live, ready_state
from thirdeye.clients.client import Client
from thirdeye.clients.inspection.arrays import arrays_of
from thirdeye.clients.inspection.inspect_command import reading_lines, run_inspect
from thirdeye.clients.inspection.inspect_picture import above_noise, sweep_title


@pytest.fixture
def url() -> object:
    with live(ready_state(fake_engine())) as base:
        yield base


def inspect(url: str, text: str = "Hi you", **options: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = run_inspect(text, url, stdout=out, stderr=err, **options)  # type: ignore[arg-type]
    return code, out.getvalue(), err.getvalue()


def test_a_table_of_tokens_and_parts(url: str) -> None:
    code, out, err = inspect(url, compare=["a", "b"])
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["token", "surprisal", "rank"]
    assert [line.split()[0] for line in lines[1:3]] == ["'H'", "'i'"]
    assert "logit of 'a' less 'b''s is +1.000, the sum of" in lines
    assert any("L2H1 +1.00" in line for line in lines)


def test_what_a_logit_is_the_sum_of_adds_up(url: str) -> None:
    """Whatever parts there are: a state's, and what layers are told besides."""
    with Client(base_url=url) as client:
        found = client.inspect("Hi you", include=["surprisal", "attribution"])
    parts = found.raw["attribution"]
    parts |= {"state": [0.0, 3.0, -0.5], "layer_input": [0.25] * 3, "stream_bias": [0.125] * 3}
    first, *lines = list(reading_lines(found))[-5:]
    told = {line[:12].strip(): float(line[12:].split()[0].strip(":,")) for line in lines}
    assert "the sum of" in first
    assert told["states"] == 2.5
    assert "L1 +3.00" in lines[-2]
    others = float(lines[0].split()[-1])
    apart = {"tokens", "logit", "scale"}
    every = sum(np.sum(part) for name, part in parts.items() if name not in apart)
    assert sum(told.values()) + others == pytest.approx(every, abs=3e-3)


def test_a_sweep_and_files(url: str, tmp_path: Path) -> None:
    answer, picture = tmp_path / "a.json", tmp_path / "a.png"
    code, out, _ = inspect(url, sweep="heads", json_file=answer, png_file=picture)
    assert code == 0
    assert "4 of 6 change the next token by more than the noise" in out
    assert "L2H1" in out.splitlines()[-6]  # the most first
    found = json.loads(answer.read_text())
    assert len(found["sweep"]["variants"]) == 6
    assert found["read"]["object"] == "inspection"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("compare", [None, ["a", "b"]])
def test_a_notebook_runs_from_its_first_cell_to_its_last(
    url: str, tmp_path: Path, compare: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a text of quotes and a backslash; each cell's own print is there, and no key."""
    file, text = tmp_path / "a.ipynb", 'Hi "you" \\\''
    code, out, err = inspect(
        url, text, api_key="secret", compare=compare, sweep="mlps", notebook_file=file
    )
    assert (code, err) == (0, "")
    assert "secret" not in file.read_text()
    notebook = json.loads(file.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    matplotlib.use("agg")
    names: dict[str, object] = {}
    for cell in cells:
        assert cell.keys() >= {"cell_type", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
            exec(compile(cell["source"], cell["id"], "exec"), names)  # noqa: S102
    matplotlib.pyplot.close("all")
    names["client"].close()  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert names["TEXT"] == text
    for line in ("the largest part: layer ", "nats; noise up to", "('layer',) above the noise:"):
        assert line in said
    for row in out.splitlines()[2:5]:  # the same surprisal and rank as the command's own table
        assert row.split() in [line.split() for line in said.splitlines()]


def test_what_goes_wrong_is_told(url: str, tmp_path: Path) -> None:
    assert inspect(url, "")[0] == 1
    code, _, err = inspect(url, sweep="words")
    assert (code, "sweep" in err) == (1, True)
    code, _, err = inspect(url, json_file=tmp_path / "no" / "a.json")
    assert (code, "No such file" in err) == (1, True)
    code, _, err = inspect("http://127.0.0.1:9")
    assert (code, "thirdeye serve" in err) == (1, True)


@pytest.mark.parametrize(("sweep", "named"), [("mlps", "MLPs"), ("attentions", "attentions")])
def test_a_picture_says_what_was_left_out_and_how_large_noise_is(
    url: str, sweep: str, named: str
) -> None:
    with Client(url) as client:
        swept = client.inspect("abc", include=[], sweep={"over": sweep})
    noise = swept.raw["noise"]["kl_max"]
    told = f"KL without one of the {named}; gray: noise, up to {noise:.1e}"
    assert sweep_title(swept, sweep) == told


def test_a_picture_grays_what_is_no_more_than_rounding(url: str) -> None:
    with Client(url) as client:
        swept = client.inspect("abc", include=[], sweep={"over": "heads"})
    shown = above_noise(arrays_of(swept.raw)).values.flatten().tolist()
    for value, variant in zip(shown, swept.raw["variants"], strict=True):
        is_gray = math.isnan(value)
        assert is_gray is not variant["is_above_noise"]
        assert is_gray or value == pytest.approx(variant["kl"])
