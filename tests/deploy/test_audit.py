"""What pip-audit's ends mean, by a program that ends as it does."""

from pathlib import Path

import pytest

from tests.deploy.audit import audit
from tests.deploy.lock import LOCK

CLEAN = "echo 'No known vulnerabilities found' >&2"
HOLE = "echo 'Found 1 known vulnerability in 1 package' >&2; echo 'jinja2 3.1.5 CVE-1'; exit 1"
ALONE = "echo 'ConnectionError: Failed to resolve' >&2; exit 1"


@pytest.mark.parametrize(
    ("script", "status", "says"),
    [(CLEAN, 0, "no known hole"), (HOLE, 1, "CVE-1"), (ALONE, 0, "WARNING: requirements.lock")],
)
def test_holes_fail_and_no_network_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, status: int, says: str
) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\nfor last; do :; done\ntest -f "$last" || exit 9\n{script}\n')
    program.chmod(0o755)
    assert audit(str(program), LOCK) == status
    assert says in capsys.readouterr().out
