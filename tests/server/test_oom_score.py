"""Who ends first where memory does."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from thirdeye.server import oom_score
from thirdeye.server.load import engine_main
from thirdeye.server.oom_score import LOADING, SERVING, end_before_others


@pytest.mark.parametrize(("began", "most"), [(0, 500), (-900, -400), (800, 1000)])
def test_it_is_added_to_what_the_operator_chose(
    began: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oom_score, "_began_at", [])
    file = tmp_path / "oom_score_adj"
    file.write_text(f"{began}\n")
    end_before_others(LOADING, file)
    assert int(file.read_text()) == most
    end_before_others(SERVING, file)
    assert int(file.read_text()) == min(began + SERVING, 1000)


def test_where_there_is_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom_score, "_began_at", [])
    end_before_others(LOADING, tmp_path / "none" / "oom_score_adj")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has such scores")
def test_the_kernel_takes_it() -> None:
    """Up, and down again, without being root."""
    code = (
        "from thirdeye.server.oom_score import FILE, LOADING, SERVING, end_before_others as end\n"
        "began = int(FILE.read_text())\n"
        "end(LOADING); high = int(FILE.read_text())\n"
        "end(SERVING); print(high - began, int(FILE.read_text()) - began)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(LOADING), str(SERVING)]


def test_an_engine_ends_first_from_its_first_line_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it imports torch it would have the score of the server, which has more memory."""
    order: list[object] = []

    def import_torch() -> None:
        order.append("torch")
        raise MemoryError

    monkeypatch.setattr(gc, "disable", lambda: None)
    monkeypatch.setattr(engine_main, "end_before_others", order.append)
    monkeypatch.setattr(engine_main, "import_torch", import_torch)
    with pytest.raises(MemoryError):
        engine_main.main()
    assert order == [LOADING, "torch"]
