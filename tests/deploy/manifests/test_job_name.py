"""The name of the scrape job that the files for Prometheus go by: one, and operators are told."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promql import DEPLOY

DOCS = DEPLOY.parent / "docs"
JOB = re.compile(r"""\bjob\s*(?:=~?|!=|!~)\s*\\?["']([^"'\\]*)""")
NAME = "thirdeye"


def texts() -> dict[str, str]:
    files = [path for path in DEPLOY.rglob("*") if path.suffix in (".yml", ".yaml", ".json")]
    return {path.relative_to(DEPLOY).as_posix(): path.read_text() for path in files}


def asking() -> dict[str, set[str]]:
    """File -> the jobs that its expressions ask for."""
    found = {name: set(JOB.findall(text)) for name, text in texts().items()}
    return {name: jobs for name, jobs in found.items() if jobs}


def scrape_jobs(text: str) -> list[str]:
    told: dict[str, Any] = yaml.safe_load(text)
    return [job["job_name"] for job in told["scrape_configs"]]


def block(page: Path, first: str) -> str:
    """A page's indented block that begins so, less its indent."""
    lines = page.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip() == first)
    indent = lines[start][: -len(first)]
    end = next(n for n, line in enumerate(lines[start:], start) if not line.startswith(indent))
    return "\n".join(line.removeprefix(indent) for line in lines[start:end])


def test_files_ask_for_one_job() -> None:
    assert asking() == {"alerts.yml": {NAME}, "kubernetes/keda.yaml": {NAME}}


def test_what_scrapes_has_that_name() -> None:
    assert scrape_jobs(texts()["compose/prometheus.yml"]) == [NAME]
    assert scrape_jobs(block(DOCS / "observability.md", "scrape_configs:")) == [NAME]


def test_an_operator_is_told() -> None:
    """Which files go by it, and what to do where a pod's annotations make another name."""
    page = (DOCS / "observability.md").read_text()
    told = next(line for line in page.split("\n\n") if "**The job's name.**" in line)
    for file in asking():
        assert f"`deploy/{file}`" in told
    assert "`deploy/kubernetes/deployment.yaml`" in told
    assert "relabel" in told
    assert f'job="{NAME}"' in told
    assert "docs/observability.md" in texts()["kubernetes/keda.yaml"]
