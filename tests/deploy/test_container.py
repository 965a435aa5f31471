"""The Dockerfile: nobody runs it, nothing is fetched without a hash, and what it names exists."""

import re

from tests.deploy.lock import LOCK, ROOT, TORCH_LOCK
from tests.deploy.promql import DEPLOY
from thirdeye.server.settings.settings import all_settings

TEXT = (DEPLOY / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{name} ")]


def test_nobody_runs_it() -> None:
    assert instructions("USER") == ["65534:65534"]
    last_run = max(i for i, line in enumerate(LINES) if line.startswith("RUN "))
    assert [i > last_run for i, line in enumerate(LINES) if line.startswith("USER ")] == [True]


def test_the_cache_is_all_that_it_writes() -> None:
    assert instructions("VOLUME") == ["/cache"]
    assert "XDG_CACHE_HOME=/cache" in instructions("ENV")[0]
    assert "--read-only" in TEXT
    assert "--cap-drop ALL --security-opt no-new-privileges" in TEXT


def test_packages_come_by_their_hashes() -> None:
    (install,) = [line for line in instructions("RUN") if "pip" in line]
    for part in re.findall(r"pip install (.*?)(?:&&|$)", install):
        assert "--no-deps" in part
        assert "--require-hashes" in part or "${TORCH}" in part or "/install/*.whl" in part
    assert any(
        "--require-hashes --requirement /install/torch" in arg for arg in instructions("ARG")
    )
    copied = instructions("COPY")[0].split()
    assert {str(path.relative_to(ROOT)) for path in (LOCK, TORCH_LOCK)} <= set(copied)
    (base,) = [arg for arg in instructions("ARG") if arg.startswith("BASE=")]
    assert ":" in base
    assert not base.endswith(":latest")


def test_signals_and_variables_reach_the_server() -> None:
    assert instructions("ENTRYPOINT") == ['["thirdeye"]']
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    named = set(re.findall(r"THIRDEYE_[A-Z_]+\b(?==)", TEXT))
    assert named <= {row.variable for row in all_settings()}
    assert "/health" in instructions("HEALTHCHECK")[0]
