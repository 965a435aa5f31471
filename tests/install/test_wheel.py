"""The wheel in an empty environment, used from an empty folder: one package, and it serves, with
the kernels that it brings where there is no compiler.

What it depends on is lent to it from the environment of the tests, after it was installed; nothing
of this repository is.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.draws import also_at_night, is_night
from tests.e2e.in_process import served_here
from tests.e2e.live import ROOT, LiveServer
from tests.model.native.levels.test_arm import CROSS
from tests.tiny import tiny_llama
from thirdeye.model.native.build import Build, Unavailable
from thirdeye.model.native.levels import LEVELS, levels_here
from thirdeye.server.load.native_kernels import plan_native
from thirdeye.server.web import ASSETS

COMPILING = 900  # seconds: half a minute on two free cores
pytestmark = pytest.mark.timeout(COMPILING + 300)


def pip(*args: str, path: Path | None = None) -> None:
    """With the programs in `path` before all others."""
    command = [sys.executable, "-P", "-m", "pip", "--quiet", *args]
    env = dict(os.environ)  # noqa: TID251 (a child wants a whole one)
    env["PATH"] = f"{path}:{env['PATH']}" if path else env["PATH"]
    subprocess.run(command, check=True, timeout=COMPILING, env=env)


def knows_no_other(folder: Path) -> Path:
    """Where compilers know no level that this processor lacks: each would take as long as all else
    here, and nothing here could run what it makes."""
    programs = dict.fromkeys(CROSS, "exit 1\n")
    if compiler := shutil.which("cc"):
        others = [level for level in LEVELS if level not in levels_here()]
        refusals = (f"'{' '.join(level.flags)} -E '*) exit 1;;\n" for level in others)
        programs["cc"] = f'case "$*" in\n{"".join(refusals)}esac\nexec {compiler} "$@"\n'
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist, home = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("environment")
    path = None if is_night() else knows_no_other(tmp_path_factory.mktemp("programs"))
    how = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(dist))
    pip("wheel", *how, str(ROOT), path=path)
    (wheel,) = dist.glob("*.whl")
    venv.create(home, with_pip=False)
    pip("--python", str(home / "bin/python"), "install", "--no-deps", "--no-index", str(wheel))
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{Path(torch.origin).parents[1]}\n")
    return home


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


@also_at_night
def test_one_package_is_installed(environment: Path) -> None:
    """At night with the kernels of every compiler that is here."""
    if is_night() and shutil.which(CROSS[0]):
        for level in ("i8mm", "neon"):
            assert [*environment.glob(f"lib/python*/**/prebuilt/kernels-{level}.so")]
    (packages,) = environment.glob("lib/python*/site-packages")
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert names == {"thirdeye", "thirdeye_server", "lent.pth"}
    (licences,) = packages.glob("thirdeye_server-*.dist-info/licenses")
    assert len([*licences.glob("server/web/vendor/*/LICENSE")]) == 3  # of the page's libraries


def test_what_was_compiled_here_before_is_not_compiled_again(
    environment: Path, kernels: Path | Unavailable
) -> None:
    """A library's last bytes are of its name in the cache."""
    if isinstance(kernels, Unavailable):
        pytest.skip(f"NATIVE TESTS SKIPPED: {kernels}")
    name = f"kernels-{levels_here()[0].name}.so"
    (library,) = environment.glob(f"lib/python*/**/prebuilt/{name}")
    assert library.read_bytes() == kernels.read_bytes()


def test_a_script_beside_modules_of_our_rooms_names(environment: Path, folder: Path) -> None:
    for name in ("server", "clients", "model", "weights"):
        (folder / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    (folder / "script.py").write_text(
        "from thirdeye import Client\nimport thirdeye.server.cli as cli\n"
        "print(Client.__module__, cli.__file__)\n"
    )
    python = environment / "bin/python"
    done = subprocess.run([python, "script.py"], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    module, file = done.stdout.split()
    assert module == "thirdeye.clients.client"
    assert Path(file).is_relative_to(environment)


def answer_of(url: str) -> dict[str, Any]:
    """With the bits of its logprobs: JSON's numbers are whole."""
    message = {"role": "user", "content": "Hi"}
    body = {"model": "tiny", "messages": [message], "max_tokens": 12, "temperature": 0}
    body |= {"logprobs": True, "top_logprobs": 5}
    path = f"{url}/v1/chat/completions"
    answer = httpx.post(path, json=body, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_serves_chats_and_shows_its_page_without_a_compiler(
    environment: Path, folder: Path
) -> None:
    """And answers as kernels do that were compiled here."""
    tiny_llama(folder / "tiny")
    no_compiler = {"PATH": "", "CC": "", "XDG_CACHE_HOME": str(folder / "cache")}
    server = LiveServer(
        ["./tiny", "--threads", "1"],
        env=no_compiler if levels_here() else {},
        cwd=folder,
        command=(str(environment / "bin/thirdeye"),),
    )
    try:
        server.start()
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            assert "<title>" in client.get("/").text
            for asset in ASSETS:
                assert client.get(asset).status_code == 200, asset
        answer = answer_of(server.url)
        assert answer["usage"]["completion_tokens"] == 12
        talk = [environment / "bin/thirdeye", "complete", "--url", server.url, "--max-tokens", "4"]
        done = subprocess.run([*talk, "Hi"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert server.stop() == 0, server.output
        if levels_here() and shutil.which("cc"):
            assert f"{levels_here()[0].name} kernels from the wheel" in server.output
            assert not (folder / "cache/thirdeye/kernels").exists()
            assert isinstance(plan_native(), Build)  # and no library of a wheel's
            with served_here(folder / "tiny") as url:
                assert answer_of(url)["choices"] == answer["choices"]
    finally:
        server.kill()


@pytest.mark.skipif(
    not (levels_here() and shutil.which("cc")),
    reason="NATIVE TESTS SKIPPED: no compiler, or no level that the processor has",
)
def test_a_tampered_library_is_refused_and_said(environment: Path, folder: Path) -> None:
    (library,) = environment.glob(f"lib/python*/**/prebuilt/kernels-{levels_here()[0].name}.so")
    content = library.read_bytes()
    library.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    try:
        done = subprocess.run(
            [environment / "bin/thirdeye", "doctor"],
            capture_output=True,
            text=True,
            timeout=100,
            env={"PATH": "", "HOME": str(folder), "COLUMNS": "1000"},  # a row is a line
        )
    finally:
        library.write_bytes(content)
    assert done.returncode == 0, done.stderr
    names = ("kernels of the wheel", "native kernels")
    wheel, kernels = (
        next(line for line in done.stdout.splitlines() if line.startswith(name)) for name in names
    )
    assert "REFUSED: " in wheel
    assert "is not what the manifest says (SHA-256 " in wheel
    if len(levels_here()) > 1:
        assert f"{levels_here()[1].name}, from the wheel: " in kernels
    else:
        assert "none: no C compiler is here" in kernels
        assert "refused" in kernels
