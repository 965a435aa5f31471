"""The wheel in an empty environment, used from an empty folder: one package, and it serves.

What it depends on is lent to it from the environment of the tests, after it was installed; nothing
of this repository is.
"""

import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.e2e.live import ROOT, LiveServer
from tests.tiny import tiny_llama
from thirdeye.server.web import ASSETS


def pip(*args: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", "pip", "--quiet", *args], check=True, timeout=100)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist, home = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("environment")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(ROOT))
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


def test_one_package_is_installed(environment: Path) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert names == {"thirdeye", "thirdeye_server", "lent.pth"}


def test_a_script_beside_modules_of_our_rooms_names(environment: Path, folder: Path) -> None:
    for name in ("server", "clients", "model", "weights"):
        (folder / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    (folder / "script.py").write_text(
        "from thirdeye import Client\nimport thirdeye.server.launch.cli as cli\n"
        "print(Client.__module__, cli.__file__)\n"
    )
    python = environment / "bin/python"
    done = subprocess.run([python, "script.py"], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    module, file = done.stdout.split()
    assert module == "thirdeye.clients.client"
    assert Path(file).is_relative_to(environment)


def test_it_serves_chats_and_shows_its_page(environment: Path, folder: Path) -> None:
    tiny_llama(folder / "tiny")
    server = LiveServer(["./tiny"], cwd=folder, command=(str(environment / "bin/thirdeye"),))
    try:
        server.start()
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            assert "<title>" in client.get("/").text
            for asset in ASSETS:
                assert client.get(asset).status_code == 200, asset
            message = {"role": "user", "content": "Hi"}
            body = {"model": "tiny", "messages": [message], "max_tokens": 4, "temperature": 0}
            answer = client.post("/v1/chat/completions", json=body).json()
        assert answer["usage"]["completion_tokens"] == 4
        talk = [environment / "bin/thirdeye", "complete", "--url", server.url, "--max-tokens", "4"]
        done = subprocess.run([*talk, "Hi"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert server.stop() == 0, server.output
    finally:
        server.kill()
