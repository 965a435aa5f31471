"""The README says what is so: its commands are run, its output compared, its links followed."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.e2e.live import ROOT

README = (ROOT / "README.md").read_text()
SHOWN_URL = "http://127.0.0.1:8000"


@pytest.fixture
def served(default_server):
    return default_server.server


def commands() -> list[tuple[str, str]]:
    """(command, output) of each `$ ...` in the console blocks, `make serve` apart."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip()))
    return [(command, output) for command, output in found if command != "make serve"]


def matches(shown: str, real: str) -> bool:
    """Equal, where `…` in what is shown stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), real, flags=re.S) is not None


@pytest.mark.real
@pytest.mark.parametrize(("command", "output"), commands())
def test_a_command_prints_what_is_shown(served, command, output):
    program, *args = shlex.split(command.replace(SHOWN_URL, served.url))
    argv = (
        [sys.executable, "-m", "thirdeye.server.cli"] if program == "thirdeye" else [program, "-s"]
    )
    environment = {"PATH": "/usr/bin:/bin", "OPENAI_BASE_URL": f"{served.url}/v1"}
    done = subprocess.run(
        [*argv, *args], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert matches(output, done.stdout.strip())


@pytest.mark.real
def test_the_python_example_runs(served, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(code.replace(SHOWN_URL, served.url), {})  # noqa: S102 (our own README)
    shown = capsys.readouterr().out
    assert shown.startswith("The capital of Japan is Tokyo. 8\n1")


@pytest.mark.real
def test_the_ready_line_is_as_shown(served):
    """Numbers may differ from machine to machine, the words may not."""
    (shown,) = re.findall(r"^Ready: .*$", README, flags=re.M)
    (real,) = [line.strip() for line in served.lines if line.startswith("Ready: ")]
    real = re.sub(r", no tape: [^)]*", "", real)  # of a machine without native kernels
    assert re.sub(r"[\d.,]+", "0", real) == re.sub(r"[\d.,]+", "0", shown)


def test_links_and_paths_exist():
    """Every file that README, CONTRIBUTING and the docs point at is there."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
        named = re.findall(r"`((?:tests|server|model|weights|clients|docs)/[\w./]+)`", text)
        for path in links:
            assert (page.parent / path).exists(), f"{page.name}: {path}"
        for path in named:
            assert (ROOT / path).exists(), f"{page.name}: {path}"
