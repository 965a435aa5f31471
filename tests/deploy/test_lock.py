"""The locks are what the suite runs with, whole and by hash, without a known hole."""

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.bill_of_materials import bill_of
from tests.deploy.known_holes import HOLES, Hole
from tests.deploy.lock import BILL, EXTRAS, LOCK, ROOT, TORCH_LOCK, is_torch, pins_in

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [
    *PROJECT["dependencies"],
    *(one for extra in EXTRAS for one in PROJECT["optional-dependencies"][extra]),
]
PINS = {pin.name: pin for path in (LOCK, TORCH_LOCK) for pin in pins_in(path.read_text())}
CONSTRAINTS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
}
ELSEWHERE = {"colorama", "httpx2-jsfetch"}  # wanted on other systems than the suite's
UNPINNED = {"pip", "setuptools"}  # every environment has its own, and the suite does not care


def test_every_direct_dependency_is_locked_within_its_bounds() -> None:
    for text in RUNTIME:
        wanted = Requirement(text)
        assert PINS[canonicalize_name(wanted.name)].version in wanted.specifier, text


def test_versions_are_those_that_are_tested_together() -> None:
    for name, pin in PINS.items():
        if name not in ELSEWHERE | UNPINNED and not (is_torch(name) and name not in CONSTRAINTS):
            assert CONSTRAINTS[name] == pin.version, name


def required(names: Iterable[str]) -> set[str]:
    """With all that they require here."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (wanted.marker and not wanted.marker.evaluate({"extra": ""})) or name in found:
            continue
        found.add(name)
        waiting += map(Requirement, importlib.metadata.requires(name) or ())
    return found


def test_nothing_that_is_needed_is_left_out() -> None:
    assert required(RUNTIME) - PINS.keys() == set()


def test_everything_has_its_hashes_and_nothing_a_place() -> None:
    for pin in PINS.values():
        assert pin.hashes
    for path in (LOCK, TORCH_LOCK):
        text = path.read_text()
        assert "://" not in text
        assert len(re.findall(r"^[a-z]", text, re.MULTILINE)) == len(pins_in(text))


def test_torch_and_what_it_brings_are_apart() -> None:
    assert {pin.name for pin in pins_in(TORCH_LOCK.read_text())} == {*filter(is_torch, PINS)}
    assert "torch" in PINS


def test_the_bill_of_materials_is_of_these_locks() -> None:
    """`make lock` writes all three."""
    assert json.loads(BILL.read_text()) == bill_of(LOCK, TORCH_LOCK)
    named = {(one["name"], one["version"]) for one in bill_of(LOCK, TORCH_LOCK)["components"]}
    assert {(pin.name, pin.version) for pin in PINS.values()} <= named


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: f"{hole.package}-{hole.fixed_in}")
def test_no_version_has_a_known_hole(hole: Hole) -> None:
    for versions in ({name: pin.version for name, pin in PINS.items()}, CONSTRAINTS):
        version = versions.get(hole.package)
        if hole.fixed_in:
            assert version is None or Version(version) >= Version(hole.fixed_in), hole.what
        elif versions is not CONSTRAINTS:
            assert version is None, hole.what


@pytest.mark.parametrize("hole", [hole for hole in HOLES if hole.fixed_in], ids=lambda h: h.package)
def test_our_own_bounds_let_no_hole_in(hole: Hole) -> None:
    """What pip may choose elsewhere, for what we ask for by name."""
    for wanted in map(Requirement, PROJECT["dependencies"]):
        if canonicalize_name(wanted.name) == hole.package:
            lowest = [spec.version for spec in wanted.specifier if spec.operator == ">="]
            assert max(map(Version, lowest)) >= Version(hole.fixed_in), hole.what
