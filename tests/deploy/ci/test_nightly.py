"""`.ci/nightly`: each job runs, whatever became of the one before, and failures are told."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "nightly"
MAKE = """#!/bin/sh
echo "make $*"
case " $FAILING " in *" $1 "*) exit 2 ;; esac
"""


@pytest.mark.parametrize("failing", ["", "audit", "prove", "audit prove"])
def test_every_job_runs(tmp_path: Path, failing: str) -> None:
    for name in ("make", "node", "npm"):
        (tmp_path / name).write_text(MAKE)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [SCRIPT, "tests/prove/programs"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "FAILING": failing},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["make audit", "make prove ARGS=-v tests/prove/programs"]
    assert done.stderr.splitlines() == [f"FAILED: make {job}" for job in failing.split()]
    assert done.returncode == (1 if failing else 0)
