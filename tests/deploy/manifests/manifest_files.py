"""The YAML that operators copy, read as they are applied, and what each says of our command."""

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promql import DEPLOY
from thirdeye.server.settings.settings import all_settings

SETTINGS = {row.flag: row for row in all_settings()}
PORT = 8000  # of the image


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / file).read_text()))


def kinds(file: str) -> dict[str, dict[str, Any]]:
    """By kind, of which there is one each."""
    found = documents(file)
    assert len({document["kind"] for document in found}) == len(found)
    return {document["kind"]: document for document in found}


def flags(args: list[str]) -> dict[str, str | None]:
    """`--a=1 --b 2 --switch` by name; each must be a row of the table."""
    found: dict[str, str | None] = {}
    rest = iter(args)
    for arg in rest:
        flag, _, value = arg.partition("=")
        row = SETTINGS[flag]
        found[flag] = value or (None if row.type is bool else next(rest))
    return found


def yaml_files() -> list[Path]:
    return sorted(DEPLOY.rglob("*.y*ml"))
