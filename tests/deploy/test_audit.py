"""What pip-audit's ends mean, by a program that ends as it does."""

import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

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
    told = capsys.readouterr().out
    assert says in told
    if script is ALONE:
        assert told.count("\n") == 1
        assert "api.osv.dev did not answer" in told
        assert "OSV_URL" in told


class StandIn(http.server.BaseHTTPRequestHandler):
    """A database of one package with a hole, as OSV's interface is."""

    hole = "jinja2"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = asked["package"]["name"], asked["version"]
        found: dict[str, Any] = {}
        if name == self.hole:
            package = {"name": name, "ecosystem": "PyPI"}
            affected = [{"package": package, "versions": [version]}]
            times = {"modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z"}
            found = {"vulns": [{"id": "PYSEC-1", "details": "x", "affected": affected, **times}]}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.mark.prove
def test_the_program_itself_finds_a_hole_and_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip-audit as `make audit` installs it, with a database on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "tools"], check=True)
    pip = [tmp_path / "tools/bin/python", "-m", "pip", "install", "--quiet", "pip-audit>=2.10,<3"]
    subprocess.run(pip, check=True, capture_output=True)
    program = str(tmp_path / "tools/bin/pip-audit")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        try:
            for hole, status, says in (("jinja2", 1, "PYSEC-1"), ("nobody", 0, "no known hole")):
                monkeypatch.setattr(StandIn, "hole", hole)
                assert audit(program, LOCK, url) == status
                assert says in capsys.readouterr().out
        finally:
            server.shutdown()
