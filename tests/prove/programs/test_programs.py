"""Programs that people use do a job with the server: a tool called and answered, a form filled in,
text, each streamed and whole. The scripts check themselves and print one line.

Every Python program has an environment of its own, the Node packages have one; nothing of them
is among what the product or its tests depend on.
"""

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prove.programs.scripted_model import scripted_server

HERE = Path(__file__).parent
PYTHON, NODE = HERE / "python", HERE / "node"
LINES = (HERE / "requirements.txt").read_text().splitlines()
PROGRAMS = [line for line in LINES if line and not line.startswith("#")]
SCRIPTS = sorted(path.name for path in NODE.glob("*.mjs"))
INSTALLING = 1200  # seconds
pytestmark = [pytest.mark.prove, pytest.mark.timeout(INSTALLING + 300)]


def run(*command: str | Path, cwd: Path, seconds: float = INSTALLING) -> str:
    """What it printed; it must end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def pip(*args: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check", *args)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with scripted_server() as url:
        yield url


@pytest.fixture(scope="module")
def python_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is there, or these tests skip; then whatever cannot be installed is a failure."""
    _reach(tmp_path_factory, *pip("download", "--no-deps", "--no-cache-dir", "idna"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Node packages and the scripts."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("NODE PROGRAMS SKIPPED: node and npm are not both installed")
    _reach(tmp_path_factory, "npm", "view", "zod", "version")
    home = tmp_path_factory.mktemp("node")
    shutil.copytree(NODE, home, dirs_exist_ok=True)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=home)
    return home


def _reach(folders: pytest.TempPathFactory, *command: str | Path) -> None:
    try:
        run(*command, cwd=folders.mktemp("index"), seconds=120)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"PROGRAMS SKIPPED: no package index in reach: {str(error)[-300:]}")


@pytest.mark.parametrize("requirement", PROGRAMS, ids=lambda line: line.partition(">")[0])
@pytest.mark.usefixtures("python_index")
def test_a_python_program_does_its_job(requirement: str, url: str, tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=False, symlinks=True)
    python = tmp_path / "bin/python"
    run(*pip("--python", python, "install", requirement), cwd=tmp_path)
    name = requirement.partition(">")[0].partition("[")[0]
    script = PYTHON / f"{name.replace('-', '_')}_job.py"
    assert run(python, "-I", script, url, cwd=tmp_path, seconds=200) == f"{name}: done\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_node_program_does_its_job(script: str, url: str, packages: Path) -> None:
    name = script.removesuffix(".mjs")
    assert run("node", script, url, cwd=packages, seconds=200) == f"{name}: done\n"
