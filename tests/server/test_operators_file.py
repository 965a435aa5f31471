"""Files that an operator names, of every kind that a path can lead to: none is waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thirdeye.server.launch.several.model_specs import ModelsUnclear, specs_in
from thirdeye.server.operators_file import MAX_BYTES, read_operators_file
from thirdeye.server.settings.api_keys import keys_in

KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a large file": lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)),
    "a file of nothing but size": lambda path: os.truncate(_touched(path), 1 << 40),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe"),
}


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_it_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    make(path)
    with pytest.raises((OSError, UnicodeDecodeError)):
        read_operators_file(path)
    with pytest.raises(ValueError, match="Cannot be read"):
        keys_in(path)
    with pytest.raises(ModelsUnclear, match="'--models'"):
        specs_in(path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "9" * 5000,
        "a = " + "{b = " * 5000,
        "a." * 5000 + "b = 1",
        "[a]\n[a]",
        "a = nan",
        "a = 0x",
        "[a]\nmodel = ''\u0000",
    ],
    ids=lambda text: text[:12],
)
def test_a_table_of_models_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(ModelsUnclear, match="'--models'") as found:
        specs_in(path)
    assert len(str(found.value)) < 1000


def test_what_is_as_large_as_may_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("é" + "a" * (MAX_BYTES - 2))
    assert len(read_operators_file(path)) == MAX_BYTES - 1
