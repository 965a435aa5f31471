"""Where things lie: small folders, and a name that stands for one thing.

A reader finds a file by its name and a class by its own. Exceptions have their reasons beside them;
one that is no longer needed is to be taken out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("clients", "model", "server", "weights")  # rooms, which are packages of `thirdeye`
CLASS = re.compile(r"^ *class (\w+)(?=[(:\[])", re.MULTILINE)
MAX_FILES = 13  # Python files of one folder, less `__init__.py`

METAPHORS = {  # nobody guesses what is behind them, and the field has a word for each
    *("board", "crew", "flight", "heap", "knobs", "mate", "place", "room", "say", "shown"),
    *("summon", "viewers", "witness"),
}

TWINS = "a kernel for GPUs and its twin in C"
DIALECTS = "each API dialect has its own"
LARGE_FOLDERS: dict[str, str] = {}
SAME_FILE_NAMES = {
    "model": {
        "paged_attention.py": TWINS,
        "rms_norm.py": TWINS,
        "rope_kv.py": TWINS,
        "transformer.py": "the model, and what its parts declare",
    },
    "server": {"schema.py": DIALECTS, "routes.py": DIALECTS, "events.py": DIALECTS},
}


def files(rooms: Iterable[str]) -> Iterator[Path]:
    for room in rooms:
        yield from (path.relative_to(ROOT) for path in sorted((ROOT / room).rglob("*.py")))


def repeated(places: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    """The names that stand in more than one place."""
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in places:
        found[name].append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1}


@cache
def large_folders() -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for path in files((*PRODUCT, "tests")):
        sizes[str(path.parent)] += path.name != "__init__.py"
    return {folder: size for folder, size in sizes.items() if size > MAX_FILES}


@cache
def same_file_names(room: str) -> dict[str, list[Path]]:
    return repeated((path.name, path) for path in files([room]) if path.name != "__init__.py")


@cache
def same_class_names() -> dict[str, list[Path]]:
    return repeated(
        (name, path) for path in files(PRODUCT) for name in CLASS.findall((ROOT / path).read_text())
    )


def test_no_folder_is_too_large_to_be_seen_at_once() -> None:
    assert {f: n for f, n in large_folders().items() if f not in LARGE_FOLDERS} == {}


@pytest.mark.parametrize("room", PRODUCT)
def test_a_file_name_stands_once_in_a_room(room: str) -> None:
    allowed = SAME_FILE_NAMES.get(room, {})
    assert {n: p for n, p in same_file_names(room).items() if n not in allowed} == {}


def test_a_class_name_stands_once() -> None:
    assert same_class_names() == {}


def test_no_file_is_named_by_a_metaphor() -> None:
    everywhere = files((*PRODUCT, "tests"))
    assert [path for path in everywhere if METAPHORS & set(path.stem.split("_"))] == []


def test_every_exception_is_needed() -> None:
    assert LARGE_FOLDERS.keys() - large_folders().keys() == set()
    for room, names in SAME_FILE_NAMES.items():
        assert names.keys() - same_file_names(room).keys() == set()
