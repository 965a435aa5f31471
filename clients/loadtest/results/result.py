"""A result on disk: JSON, written whole or not at all, read with a check that it is one of ours."""

import json
import os
from pathlib import Path
from typing import Any

VERSION = 1

Result = dict[str, Any]


class NoResult(ValueError):
    """A file that holds no result of the load tester; the message names it."""


def write_result(result: Result, path: Path) -> None:
    """Raises OSError. An older file of that name is replaced at the end, in one step."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_result(path: Path) -> Result:
    """Raises NoResult, OSError."""
    try:
        raw = json.loads(path.read_text())
    except (ValueError, RecursionError):
        raise NoResult(f"{path} is not JSON.") from None
    if not isinstance(raw, dict) or raw.get("benchmark") != "serve":
        raise NoResult(f"{path} is no result of `thirdeye bench serve`.")
    if raw.get("version") != VERSION:
        raise NoResult(f"{path} has version {raw.get('version')} of the format, this is {VERSION}.")
    return raw
