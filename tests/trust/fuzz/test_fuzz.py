"""Readers of bytes from outside: each corpus, damaged by chance in a push, by coverage at length.

`corpora/TARGET/` holds what the mutations start from, and every input that once was a finding.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.trust.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[3]
CORPORA = Path(__file__).parent / "corpora"
MUTATIONS = 30  # of each file
SECONDS = 60


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One to four wounds: a flipped bit, a changed, a lost, a doubled piece, another's piece."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice([1, 1, 2, 4, 8, 40]))
        match chance.choice(["flip", "byte", "number", "cut", "double", "splice"]):
            case "flip" if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case "byte" if at < len(found):
                found[at] = chance.choice(b'\x00\xff"\\{}[]():,%0123456789-+.eE \n\r')
            case "number":
                found[at:end] = chance.choice([b"\xff" * 8, b"\x00" * 8, b"9" * 20, b"-1", b"1e9"])
            case "cut":
                del found[at:end]
            case "double":
                found[at:at] = found[at:end] * chance.choice([1, 3, 30])
            case _:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                found[at:end] = other[start : start + chance.choice([1, 8, 64])]
    return bytes(found)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_refusals(name: str) -> None:
    """The corpus as it is, and damaged: a fault has its input in the message."""
    files = [path.read_bytes() for path in sorted((CORPORA / name).iterdir())]
    assert files
    chance = random.Random(name)
    for data in files:
        damaged = [mutated(data, files, chance) for _ in range(MUTATIONS)]
        for trial in (data, *damaged):
            try:
                TARGETS[name](trial)
            except Exception as error:
                raise AssertionError(f"{name} of {trial!r}") from error


@pytest.mark.prove
@pytest.mark.timeout(SECONDS * 10)
@pytest.mark.parametrize("name", TARGETS)
def test_a_minute_of_atheris(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if not find_spec("atheris"):
        pytest.skip("atheris is not installed: pip install '.[fuzz]'")
    command = [sys.executable, "-m", "tests.trust.fuzz.run", name, "--seconds", str(SECONDS)]
    done = subprocess.run(
        [*command, "--findings", str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ,  # noqa: TID251 (a child wants a whole one)
    )  # fmt: skip
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    record_property(f"{name}_inputs", int(tried[1]) if tried else 0)
    findings = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not findings, f"{findings}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
