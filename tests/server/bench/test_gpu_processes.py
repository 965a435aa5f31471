"""What one part of the GPU's run does to itself takes nothing from the others or the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import run as gpu_run
from tests.gpu.part import FAILED, Findings
from tests.gpu.run import ROOT, main

BROKEN = ["--parts", "tests.server.bench.broken_parts", "--commit", "0abc123"]


class TimeIsUp(subprocess.Popen[bytes]):
    """For the part that hangs, once it does: however long a busy machine takes to get there."""

    def wait(self, timeout: float | None = None) -> int:
        assert isinstance(self.args, list)
        if timeout is None or "hanging" not in self.args:
            return super().wait(timeout)
        path = Path(str(self.args[self.args.index("hanging") + 1]))
        while Findings.read(path).found != {"before": 3}:
            assert self.poll() is None
        raise subprocess.TimeoutExpired(self.args, timeout)


def test_whatever_a_part_does_the_others_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One raises, one is killed, one hangs, one loses its device: what each knew stays."""
    monkeypatch.setattr(gpu_run.subprocess, "Popen", TimeIsUp)
    assert main(["--out", str(tmp_path), "--seconds", "100000", *BROKEN]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["left_out"] == {
        "elsewhere": "it is not here",
        "raising": "ImportError: no module named flashinfer",
        "killed": "the process was ended by SIGKILL",
        "hanging": "ended after 150 s",
    }
    parts = summary["parts"]
    assert parts.pop("checks") == {
        "passed": ["good", "better"],
        "failed": {
            "wrong": "AssertionError",
            "illegal": "AssertionError",
            "fatal": "the process was ended by SIGSEGV",
        },
        "processes": 3,
    }
    assert parts == {
        "sound": {"answer": 3},
        "raising": {"before": 1},
        "killed": {"before": 2},
        "hanging": {"before": 3},
        "last": {"answer": 4},
    }
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["parts"] == summary["parts"] | {"checks": written["parts"]["checks"]}
    told = (tmp_path / "gpu.md").read_text()
    assert "* fatal: the process was ended by SIGSEGV" in told
    assert "commit 0abc123, `python3 -m tests.gpu.run`" in told
    assert not (tmp_path / "part.json").exists()


def test_only_what_is_named_runs_in_that_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), *BROKEN, "--only", "last", "sound"]) == 0
    assert list(json.loads((tmp_path / "report.json").read_text())["parts"]) == ["last", "sound"]
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path), *BROKEN, "--only", "sounds"])
    assert ended.value.code == 2
    assert "'--only' must name parts out of 'sound', " in capsys.readouterr().err


def test_nothing_begins_too_late(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), *BROKEN, "--seconds", "-1", "--only", "sound"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["left_out"]["sound"].startswith("no time left after ")


def test_the_report_of_a_killed_run_is_there(tmp_path: Path) -> None:
    """A lent machine ends what takes too long: by then every part that has ended is told."""
    command = [sys.executable, "-m", "tests.gpu.run", "--out", str(tmp_path), *BROKEN]
    command += ["--only", "sound", "hanging"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "sound" in process.stdout.readline()
        process.kill()
        assert process.stdout.read() == ""  # who writes there is gone: the part that hangs, too
    assert json.loads((tmp_path / "report.json").read_text())["parts"] == {"sound": {"answer": 3}}


def test_a_part_whose_run_has_ended_does_nothing(tmp_path: Path) -> None:
    """Also if that was before it could be bound to the run's life."""
    command = [sys.executable, "-m", "tests.gpu.part", BROKEN[1], "hanging", str(tmp_path / "said")]
    command += ["--parent", str(os.getppid())]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == FAILED
    assert not (tmp_path / "said").exists()


def test_a_bare_tree_is_enough(tmp_path: Path) -> None:
    """No installation, and so no metadata: the server says that it is a tree."""
    said = subprocess.run(
        [sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == ["thirdeye", "0+tree"], said.stderr


BARE = """
import importlib.metadata as metadata
real = metadata.distribution
def distribution(name):
    if name.startswith("thirdeye"):
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.distribution = distribution
import sys
from thirdeye.server.cli import main
sys.argv = ["thirdeye", "--version"]
import thirdeye.server.launch.commands.offline, thirdeye.server.launch.opened_model
sys.exit(main())
"""
