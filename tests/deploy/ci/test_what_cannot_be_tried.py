"""Where another program or a namespace cannot be had, that is told, and fails nothing."""

import os
import sys
from pathlib import Path

import pytest

from tests.deploy.on_ray.namespace import Namespace
from tests.deploy.routers import router_environment
from tests.deploy.routers.router_environment import SMG


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("words", ["exit 1", "echo no; exec sleep 600"])
def test_without_a_namespace_ray_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """And nothing is left behind."""
    for name in ("ip", "ss"):
        program(tmp_path / name, "exit 1")
    program(tmp_path / "unshare", words)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(pytest.skip.Exception, match="RAY SKIPPED: no network namespace"):
        Namespace()


@pytest.mark.parametrize(("words", "code"), [("exit 0", 0), ("exit 1", 1), ("kill -SEGV $$", 1)])
def test_a_program_that_does_not_run_here_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int
) -> None:
    monkeypatch.setattr(router_environment, "CACHE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["", "smg"])
    program(SMG.home / "bin" / "smg", words)
    (SMG.home / "installed").touch()
    (SMG.home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").mkdir(parents=True)
    assert router_environment.main() == code
