"""A hub.json that somebody else wrote, or a disk: it names files of its own folder, or nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.weights.hub.fake_hub import COMMIT
from thirdeye.weights.hub.chosen_files import RepositoryFile
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.hub.hub_store import (
    RECORD,
    HubRecord,
    find_hub_model,
    folder_of,
    read_record,
    write_record,
)
from thirdeye.weights.inventory import files_to_remove, list_models, remove
from thirdeye.weights.paths import models_directory

NAME = HubName("org/name")


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is not the model folder's; beside it a model that is, of two files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = folder_of(NAME)
    folder.mkdir(parents=True)
    for name in ("a-Q4_0.gguf", "b-Q8_0.gguf"):
        (folder / name).write_bytes(b"model")
    path = tmp_path / "precious.gguf"
    path.write_bytes(b"precious")
    return path


def record(*paths: str, under: Callable[[str], str] = str, size: int = 8) -> None:
    files = {under(path): RepositoryFile(path, size) for path in paths}
    files["a-Q4_0.gguf"] = RepositoryFile("a-Q4_0.gguf", 5)
    files["b-Q8_0.gguf"] = RepositoryFile("b-Q8_0.gguf", 5)
    write_record(
        folder_of(NAME),
        HubRecord(repository="org/name", revision=None, commit=COMMIT, files=files),
    )


def remove_all() -> None:
    for entry in list_models():
        if entry.path is not None and entry.name.startswith("org/"):
            remove(files_to_remove(entry.name))


@pytest.mark.parametrize("way", ["absolute", "up", "hidden"])
def test_it_deletes_and_opens_nothing_outside(outside: Path, way: str) -> None:
    up = os.path.relpath(outside, folder_of(NAME))
    path = str(outside) if way == "absolute" else up
    under = (lambda _: "a-Q4_0.gguf.part") if way == "hidden" else str
    record(path, under=under)
    if way == "hidden":  # the key is a file of the folder, the path is not
        (folder_of(NAME) / "a-Q4_0.gguf.part").write_bytes(b"precious")
    found = find_hub_model(HubName("org/name", file="precious.gguf"))
    assert found is None or found.is_relative_to(folder_of(NAME))
    remove_all()
    assert outside.read_bytes() == b"precious"


def test_a_folder_that_leads_elsewhere_is_not_gone_through(outside: Path) -> None:
    (folder_of(NAME) / "sub").symlink_to(outside.parent)
    record("sub/precious.gguf")
    remove_all()
    assert outside.read_bytes() == b"precious"


def test_a_folder_that_is_a_link_goes_alone(outside: Path) -> None:
    """Models may lie on another disk."""
    folder, elsewhere = folder_of(NAME), outside.parent / "disk"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    record()
    assert find_hub_model(HubName("org/name", "Q4_0")) == folder / "a-Q4_0.gguf"
    remove(files_to_remove("org/name:Q4_0"))
    assert not (elsewhere / "a-Q4_0.gguf").exists()
    assert (elsewhere / "b-Q8_0.gguf").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[" * 100_000, b"null", b"\xff\xfe", b'{"files": 1}', b"0" * 1000],
    ids=["empty", "half", "deep", "null", "no text", "no record", "zeros"],
)
def test_one_that_is_none_is_none(text: bytes) -> None:
    (folder_of(NAME) / RECORD).write_bytes(text)
    assert read_record(folder_of(NAME)) is None


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "endless"])
def test_what_is_no_file_is_no_record(kind: str) -> None:
    path = folder_of(NAME) / RECORD
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    assert read_record(folder_of(NAME)) is None


def test_what_a_record_says_of_names_is_written_back_as_it_is() -> None:
    record("deep/er/c-Q5_K_M.gguf")
    found = read_record(folder_of(NAME))
    assert found is not None
    assert set(found.files) == {"a-Q4_0.gguf", "b-Q8_0.gguf", "deep/er/c-Q5_K_M.gguf"}
    assert msgspec.json.decode((folder_of(NAME) / RECORD).read_bytes())["commit"] == COMMIT
    assert models_directory() in folder_of(NAME).parents
