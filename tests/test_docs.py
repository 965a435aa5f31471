"""Every page of the documentation is reachable, and every link on a page leads somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)\s]*)?\)")
NAMED = re.compile(
    r"`((?:server|model|weights|clients|tests|deploy)/[\w/.]+\.\w+)`"
)  # in prose and code
INSIDE = re.compile(r"`(\w+)(?:\.\w+)?` in `([\w/]+\.py)`")  # "`Block.__init__` in `model/...`"
TOP = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
PAGES = sorted([*ROOT.glob("docs/*.md"), *TOP])


def links(page: Path) -> set[Path]:
    return {(page.parent / target).resolve() for target in LINK.findall(page.read_text())}


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert index in links(ROOT / "README.md")
    assert links(index) >= {page for page in ROOT.glob("docs/*.md") if page != index}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not link.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    assert [path for path in NAMED.findall(page.read_text()) if not (ROOT / path).exists()] == []


def test_the_house_has_the_layers_of_the_contracts() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    chains = [
        " > ".join(contract["layers"])
        for contract in contracts["contracts"]
        if contract["type"] == "layers" and contract["containers"] != ["thirdeye.server"]
    ]
    assert len(chains) == 2  # inside the engine, inside the API
    assert [chain for chain in chains if f" {chain}\n" not in page] == []


def test_what_contributors_are_pointed_at_is_there() -> None:
    pointed = INSIDE.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert pointed
    assert [
        name for name, file in pointed if f"class {name}" not in (ROOT / file).read_text()
    ] == []


@pytest.mark.parametrize("room", ["server", "model", "weights", "clients", "tests"])
def test_every_file_that_a_comment_names_exists(room: str) -> None:
    missing = [
        f"{source.relative_to(ROOT)}: {path}"
        for source in sorted((ROOT / room).rglob("*.py"))
        for path in NAMED.findall(source.read_text())
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_every_promise_of_security_names_tests_that_there_are() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    promised = page.split("## What is not")[0].split("|---|---|\n")[1]
    rows = [line for line in promised.splitlines() if line.startswith("|")]
    assert rows
    for row in rows:
        named = re.findall(r"`((?:tests/|pyproject)[\w/.]+)`", row)
        assert named, row
        assert all((ROOT / path).exists() for path in named), row
