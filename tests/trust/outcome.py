"""A plugin of pytest: what a run passed, skipped, failed and measured, as JSON.

    python -m pytest -p tests.trust.outcome --outcome FILE tests/...

What a test measures it says by pytest's own `record_property(name, value)`.
"""

import json
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcome", type=Path, required=True, help="where the JSON goes")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcome(config.getoption("--outcome")), "outcome-of-a-row")


class Outcome:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed = 0
        self._failed: list[str] = []
        self._skipped: list[str] = []
        self._figures: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._figures |= dict(report.user_properties) if report.when == "call" else {}
        if report.failed:
            self._failed.append(report.nodeid)
        elif report.skipped:
            self._skipped.append(f"{report.nodeid}: {_reason(report)}")
        elif report.when == "call":
            self._passed += 1

    def pytest_sessionfinish(self) -> None:
        found = {
            "passed": self._passed,
            "failed": self._failed,
            "skipped": self._skipped,
            "figures": self._figures,
        }
        self._path.write_text(json.dumps(found))


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
