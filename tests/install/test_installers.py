"""`uv tool install` and `pipx install` of the wheel, as docs/install.md says, in an empty folder
and an empty home: the command serves, answers, and leaves when it is uninstalled.

Everything is fetched once, by pip and as it is set up; the installers then see one folder.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.live import ROOT, LiveServer
from tests.tiny import tiny_llama

INSTALLING = 1500  # seconds: torch is large
TOOLS = ("uv>=0.9,<1", "pipx>=1.7,<2")
NAME = "thirdeye-server"
pytestmark = [pytest.mark.prove, pytest.mark.timeout(2 * INSTALLING + 600)]


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """What it printed; it must end well."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALLING, env=env, cwd=cwd
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def pip(*args: str | Path) -> None:
    run(sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check", *args)


@dataclass
class Kit:
    """What is fetched: `tools` has the programs, `wheels` ours and all that it depends on."""

    tools: Path
    wheels: Path

    @property
    def wheel(self) -> Path:
        (found,) = self.wheels.glob("thirdeye_server-*.whl")
        return found


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Skips where no index is in reach; from then on all that fails is a failure."""
    tools, wheels = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("wheels")
    try:
        pip("download", "--no-deps", "--no-cache-dir", "--dest", wheels / "any", "idna")
    except AssertionError as error:
        pytest.skip(f"INSTALLERS SKIPPED: no package index in reach: {str(error)[-300:]}")
    venv.create(tools, with_pip=False, symlinks=True)
    pip("--python", tools / "bin/python", "install", *TOOLS)
    how = ("--no-build-isolation", "--constraint", ROOT / "constraints.txt")
    pip("wheel", *how, "--wheel-dir", wheels, ROOT)
    return Kit(tools / "bin", wheels)


Install = Callable[[Kit], list[str | Path]]


def by_uv(kit: Kit) -> list[str | Path]:
    source = ("--no-index", "--find-links", kit.wheels)
    return [kit.tools / "uv", "tool", "install", *source, "--python", sys.executable, kit.wheel]


def by_pipx(kit: Kit) -> list[str | Path]:
    source = f"--no-index --find-links {kit.wheels}"
    return [
        kit.tools / "pipx",
        "install",
        "--python",
        sys.executable,
        f"--pip-args={source}",
        kit.wheel,
    ]


@pytest.mark.parametrize(
    ("install", "uninstall"),
    [(by_uv, ("uv", "tool", "uninstall")), (by_pipx, ("pipx", "uninstall"))],
    ids=["uv", "pipx"],
)
def test_the_command_of_an_installer(
    install: Install, uninstall: tuple[str, ...], kit: Kit, tmp_path: Path
) -> None:
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    env = {"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"}
    run(*install(kit), env=env, cwd=folder)
    command = home / ".local/bin/thirdeye"
    assert run(command, "--version", env=env, cwd=folder).startswith("thirdeye 0.")

    tiny_llama(folder / "tiny")
    # Of the environment the server has what a process needs to start, and nothing that tests set.
    own = dict.fromkeys(("PYTHONPATH", "XDG_CACHE_HOME", "VIRTUAL_ENV"), "") | env
    server = LiveServer(["./tiny"], env=own, cwd=folder, command=(str(command),))
    try:
        server.start()
        talk = (command, "complete", "--url", server.url, "--max-tokens", "4", "Hi")
        assert run(*talk, env=env, cwd=folder).strip()
        assert server.stop() == 0, server.output
    finally:
        server.kill()
    assert [path.name for path in folder.iterdir()] == ["tiny"]

    program, *words = uninstall
    run(kit.tools / program, *words, NAME, env=env, cwd=folder)
    assert not command.exists()
