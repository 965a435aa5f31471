"""`/openapi.json` is exact: generated requests, valid and not, against a live server.

    make prove ARGS=tests/contract          300 examples an operation instead of 50

schemathesis reads the document, walks every boundary it names, then draws at random: what is valid
is answered, what is not is refused with a documented status, nothing is a 5xx, and every answer has
the documented headers, content type and shape. The draws are the same each time.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.support import fake_engine, live, ready_state

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
YOUNG = ("/v1/inspect",)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with live(ready_state(fake_engine())) as url:
        yield url


def generate(url: str, path: Path, *args: str) -> None:
    """Runs `schemathesis run` in the empty folder `path`; its report is the failure's message."""
    command = [
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(HERE / "schemathesis.toml"),
        ),
        *("run", f"{url}/openapi.json", "--phases", "coverage,fuzzing", "--no-color"),
        *("--generation-deterministic", "--continue-on-failure"),
        *("--exclude-path", "/v1/timeline"),  # a stream without an end
        *(a for path in YOUNG for a in ("--exclude-path", path)),
        *args,
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.contract.checks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=path,
        env={**os.environ, **hooks},  # noqa: TID251 (a child wants a whole one)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)  # about 40 s on two free cores
def test_generated_requests(url: str, tmp_path: Path) -> None:
    generate(url, tmp_path, "--max-examples", "50")


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_many_generated_requests(url: str, tmp_path: Path) -> None:
    generate(url, tmp_path, "--max-examples", "300")
