"""A folder's files are data: whoever starts a command beside a planted `torch.py` never runs it.

`python -m` puts the current folder first on the path of whatever is imported. So does every process
that we start, unless it is told not to.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.draws import also_at_night, is_night
from tests.e2e.live import LiveServer
from tests.tiny import tiny_llama

MODULES = ("torch", "server", "model", "thirdeye", "numpy", "msgspec", "json", "pip")
PLANTED = "import pathlib\npathlib.Path(__file__).with_name('RAN').touch()\nraise SystemExit(1)\n"


@pytest.fixture(params=["modules", "packages"] if is_night() else ["both"])
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a checkpoint, and beside it a module or a package of each name that somebody
    imports: at a push one of them for each name, which costs half as many processes."""
    for number, name in enumerate(MODULES):
        kind = request.param if request.param != "both" else ("modules", "packages")[number % 2]
        if kind == "modules":
            (tmp_path / f"{name}.py").write_text(PLANTED)
            continue
        package = tmp_path / name
        package.mkdir()
        for file in ("__init__.py", "__main__.py"):
            (package / file).write_text(PLANTED)
    (tmp_path / "checkpoint").mkdir()
    tiny_llama(tmp_path / "checkpoint")
    return tmp_path


def ran(folder: Path) -> list[Path]:
    return sorted(folder.rglob("RAN"))


@also_at_night
@pytest.mark.parametrize("ranks", [1, 2] if is_night() else [2])
def test_a_server_and_its_ranks_run_nothing_of_the_folder(here: Path, ranks: int) -> None:
    """With two ranks every kind of process is there that a server has."""
    server = LiveServer(["./checkpoint", "--tensor-parallel", str(ranks)], cwd=here)
    try:
        server.start()
        assert server.stop() == 0, server.output
    finally:
        assert not ran(here)


def thirdeye(here: Path, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "thirdeye.server.cli", *args],
        cwd=here,
        env={**os.environ, **env},  # noqa: TID251 (a child wants a whole one)
        capture_output=True,
        text=True,
        timeout=100,
    )


@also_at_night
def test_the_benchmark_of_the_engine_runs_nothing_of_the_folder(here: Path) -> None:
    options = ("--shape", "./checkpoint", "--batch", "1", "--context", "16", "--steps", "1")
    options += ("--bandwidth", "1")
    done = thirdeye(here, "bench", "engine", *options)
    assert not ran(here)
    assert done.returncode == 0, done.stderr


@also_at_night
def test_fetching_a_model_runs_nothing_of_the_folder(here: Path) -> None:
    """pip is run, finds no index, and says so; a planted pip would have been the one to run."""
    home = str(here / "home")
    done = thirdeye(here, "pull", PIP_NO_INDEX="1", XDG_CACHE_HOME=home, HOME=home)
    assert not ran(here)
    assert "pip could not download" in done.stderr, done.stderr
