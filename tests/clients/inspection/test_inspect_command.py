"""`thirdeye inspect` over the fake engine: a table, a file of JSON, a picture."""

import io
import json
from pathlib import Path

import pytest

from tests.api.support import fake_engine, live, ready_state
from thirdeye.clients.inspection.inspect_command import run_inspect


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


def test_what_goes_wrong_is_told(url: str, tmp_path: Path) -> None:
    assert inspect(url, "")[0] == 1
    code, _, err = inspect(url, sweep="words")
    assert (code, "sweep" in err) == (1, True)
    code, _, err = inspect(url, json_file=tmp_path / "no" / "a.json")
    assert (code, "No such file" in err) == (1, True)
    code, _, err = inspect("http://127.0.0.1:9")
    assert (code, "thirdeye serve" in err) == (1, True)
