"""A server whose cache cannot be written: it serves what is there, and says what is missing."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.live import COMMAND, ROOT, LiveServer
from tests.tiny import tiny_llama

NOWHERE = "/dev/null/cache"  # root may write everywhere else


def test_it_serves_and_says_so(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    options = [str(tmp_path), "--served-model-name", "tiny", "--threads", "1"]
    server = LiveServer(options, env={"XDG_CACHE_HOME": NOWHERE}, cwd=tmp_path, command=_command())
    server.start()
    try:
        body = {"model": "tiny", "prompt": "a", "max_tokens": 3, "ignore_eos": True}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False)
        assert answer.json()["usage"]["completion_tokens"] == 3
    finally:
        status = server.stop()
    assert status == 0, server.output
    assert "no native kernels" in server.output
    assert "Traceback" not in server.output


PULLS = {"pull": ["pull"], "serve": ["serve", "--yes", "--port", "0"]}


@pytest.mark.parametrize("command", PULLS)
def test_a_pull_says_what_it_cannot_store(command: str) -> None:
    env = {"XDG_CACHE_HOME": NOWHERE, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*_command(), *PULLS[command]],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"thirdeye: cannot store smollm2 in {NOWHERE}/thirdeye/models: ")


def _command() -> tuple[str, ...]:
    """As installed: nothing of the current folder is a module."""
    assert COMMAND[0] == sys.executable
    return COMMAND
