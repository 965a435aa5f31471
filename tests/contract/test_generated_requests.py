"""`/openapi.json` is exact: generated requests, valid and not, against a live server.

    make prove ARGS=tests/contract          300 examples an operation instead of 4, all boundaries

A push walks a share of the boundaries: `share.py`.

schemathesis reads the document, walks every boundary it names, then draws at random: what is valid
is answered, what is not is refused with a documented status, nothing is a 5xx, and every answer has
the documented headers, content type and shape. The draws are the same each time.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.support import EOS, fake_engine, live, ready_state, says
from tests.draws import also_at_night, count, is_night
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.step_record import StepRecord

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY = "contract-key"
# Their bodies are those of another operation, whose boundaries a push walks: at night theirs, too.
SAME_BODIES = {
    "/apply-template": "/v1/chat/completions",
    "/v1/chat/completions/input_tokens": "/v1/chat/completions",
    "/v1/chat/completions/render": "/v1/chat/completions",
    "/v1/responses/input_tokens": "/v1/responses",
}
# And their fields those of another: a field is walked there.
SAME_FIELDS = {"/v1/messages/count_tokens": "/v1/messages"}


class Finite(FakeEngine):
    """Whose timeline ends: schemathesis reads an answer to its end."""

    async def watch(self, since: int = 0) -> AsyncGenerator[StepRecord, None]:
        yield StepRecord(
            **{name: 0 for name in StepRecord.__struct_fields__ if name.startswith("num_")},
            **{name: 0.5 for name in StepRecord.__struct_fields__ if name.endswith("_ms")},
            step=since,
            started_at=1.0,
            rows=[],
        )


@pytest.fixture(scope="module")
def state() -> ServerState:
    engine = fake_engine()
    return ready_state(Finite(says("Hello!"), info=engine.info, eos_token_ids=[EOS]))


@pytest.fixture(scope="module")
def url(state: ServerState) -> Iterator[str]:
    with live(state) as url:
        yield url


def generate(url: str, path: Path, *args: str, each: bool = False) -> None:
    """Runs `schemathesis run` in the folder `path`; its report is the failure's message.

    All boundaries are walked if `each` is, else a share of them, and of `SAME_BODIES` and
    `SAME_FIELDS` none.
    """
    config = (HERE / "schemathesis.toml").read_text()
    if not each:
        config += f"[[operations]]\ninclude-path = {json.dumps([*SAME_BODIES, *SAME_FIELDS])}\n"
        config += "phases.coverage.enabled = false\n"
    (path / "schemathesis.toml").write_text(config)
    command = [
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(path / "schemathesis.toml"),
        ),
        *("run", f"{url}/openapi.json", "--phases", "coverage,fuzzing", "--no-color"),
        *("--generation-deterministic", "--continue-on-failure"),
        *args,
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": f"tests.contract.{'checks' if each else 'share'}",
        "PYTHONPATH": str(ROOT),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),  # its tables of characters
    }
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=path,
        env={**os.environ, **hooks},  # noqa: TID251 (a child wants a whole one)
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(1200)  # half a minute on two free cores
def test_generated_requests(url: str, tmp_path: Path) -> None:
    generate(url, tmp_path, "--max-examples", "4")


@also_at_night
@pytest.mark.timeout(1200)
def test_generated_requests_with_a_key(state: ServerState, tmp_path: Path) -> None:
    """Where keys are set, the document says so, and none or a wrong one is a 401 everywhere."""
    quick = [a for path in ("/load", "/tokenize", "/health") for a in ("--include-path", path)]
    with live(state, ApiConfig(api_keys=(KEY,))) as url:
        key = ("--header", f"Authorization: Bearer {KEY}")
        drawn = ("--max-examples", str(count(8, 100)))
        generate(url, tmp_path, *drawn, *key, *quick, each=is_night())


def test_bodies_that_are_walked_once_are_the_same(url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json", trust_env=False).json()["paths"]
    for path, other in SAME_BODIES.items():
        assert paths[path]["post"]["requestBody"] == paths[other]["post"]["requestBody"]
        assert other not in SAME_BODIES


def test_fields_that_are_walked_once_are_the_same(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json", trust_env=False).json()

    def fields(path: str) -> dict[str, Any]:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        name = body["schema"]["$ref"].rpartition("/")[2]
        found: dict[str, Any] = document["components"]["schemas"][name]["properties"]
        return found

    for path, other in SAME_FIELDS.items():
        assert fields(path).items() <= fields(other).items()
        assert other not in {**SAME_BODIES, **SAME_FIELDS}


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_many_generated_requests(url: str, tmp_path: Path) -> None:
    generate(url, tmp_path, "--max-examples", "300", each=True)
