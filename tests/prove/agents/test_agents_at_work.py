"""Coding agents, as npm has them, work with the server: each is given a task in words, runs a
command with its own tool, and says what came out. docs/clients.md has the same settings.

Each has a home of its own, with nothing in it but these settings.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prove.agents.acting_model import PRINTED, TASK, acting_server

AGENTS = {  # the package -> its program
    "@openai/codex": "codex",
    "@anthropic-ai/claude-code": "claude",
    "opencode-ai": "opencode",
    "@qwen-code/qwen-code": "qwen",
    "@continuedev/cli": "cn",
}
ARGUMENTS = {
    "codex": ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", TASK],
    "claude": ["-p", TASK, "--allowedTools", "Bash"],
    "opencode": ["run", "--model", "thirdeye/tiny", TASK],
    "qwen": ["--auth-type", "openai", "--yolo", "-p", TASK],
    "cn": ["--config", "config.yaml", "--auto", "-p", TASK],
}
INSTALLING = 1200  # seconds
pytestmark = [pytest.mark.prove, pytest.mark.timeout(INSTALLING + 600)]

CODEX = """\
model = "tiny"
model_provider = "thirdeye"
web_search = "disabled"

[model_providers.thirdeye]
name = "thirdeye"
base_url = "{url}/v1"
wire_api = "responses"
"""
CONTINUE = """\
name: local
version: 0.0.1
schema: v1
models:
  - {{name: tiny, provider: openai, model: tiny, apiBase: "{url}/v1", apiKey: none,
      roles: [chat], capabilities: [tool_use]}}
"""


def opencode_settings(url: str) -> str:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
        "models": {"tiny": {"tool_call": True, "limit": {"context": 900_000, "output": 32_000}}},
    }
    return json.dumps({"autoupdate": False, "provider": {"thirdeye": provider}})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with acting_server() as url:
        yield url


@pytest.fixture
def home(url: str, tmp_path: Path) -> Path:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(CODEX.format(url=url))
    (tmp_path / "config.yaml").write_text(CONTINUE.format(url=url))
    (tmp_path / "opencode.json").write_text(opencode_settings(url))
    return tmp_path


def environment(url: str, home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TERM": "dumb",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "OPENAI_MODEL": "tiny",
        "CONTINUE_TELEMETRY_ENABLED": "0",
    }


def install(package: str, folder: Path) -> None:
    """Skips where there is no npm, or no index in reach; scripts of the package may run."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("AGENTS SKIPPED: node and npm are not both installed")
    folder.mkdir()
    for command in (["npm", "view", package, "version"], ["npm", "install", "--no-audit", package]):
        done = subprocess.run(
            [*command, "--prefix", folder],
            cwd=folder, capture_output=True, text=True, timeout=INSTALLING,
        )  # fmt: skip
        if done.returncode and "view" in command:
            pytest.skip(f"AGENTS SKIPPED: no package index in reach: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr[-3000:]


def program_of(package: str, name: str, folder: Path) -> Path:
    """Claude Code's is the binary for this machine; its own wrapper is set up by a script."""
    native = [*folder.glob(f"node_modules/{package}-linux-*/{name}")]
    return native[0] if native else folder / "node_modules/.bin" / name


@pytest.mark.parametrize("package", AGENTS)
def test_an_agent_does_its_task(package: str, url: str, home: Path) -> None:
    install(package, home / "packages")
    name = AGENTS[package]
    done = subprocess.run(
        [program_of(package, name, home / "packages"), *ARGUMENTS[name]],
        cwd=home,
        env=environment(url, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )
    said = done.stdout + done.stderr
    assert "The tool says:" in done.stdout, said[-4000:]
    assert PRINTED in done.stdout, said[-4000:]
