"""What is listed, and what `rm` may delete: files of the models folder and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from thirdeye.weights import inventory, resolve
from thirdeye.weights.catalog import SMOLLM2
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.inventory import ModelEntry, files_to_remove, list_models, remove
from thirdeye.weights.paths import hub_directory, models_directory

TINY = replace(SMOLLM2, distribution="no-such-distribution", member_size=5)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(inventory, "CATALOG", {"smollm2": TINY})
    models_directory().mkdir(parents=True)
    return models_directory()


def put(path: Path, raw: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def snapshot() -> Path:
    path = hub_directory() / "models--org--name--x" / "snapshots" / "abc"
    put(path / "model.safetensors", b"123")
    return path


def test_the_list(folder: Path) -> None:
    assert list_models() == [ModelEntry("smollm2", "GGUF Q4_1", 5, None)]
    mine = put(folder / TINY.file_name)
    other = put(folder / "other-q4_k_m.gguf", b"123")
    first = put(folder / "big-00001-of-00002.gguf", b"1")
    put(folder / "big-00002-of-00002.gguf", b"23")
    put(folder / "saved" / "config.json")
    put(folder / "saved" / "model.safetensors", b"1234567")
    put(folder / "note.txt")
    hub = snapshot()
    assert list_models() == [
        ModelEntry("smollm2", "GGUF Q4_1", 5, mine),
        ModelEntry("big", "GGUF", 3, first),
        ModelEntry("other-q4_k_m", "GGUF Q4_K_M", 3, other),
        ModelEntry("saved", "safetensors", 7, folder / "saved"),
        ModelEntry("org/name--x", "safetensors", 3, hub),
    ]


def test_rm_deletes_all_of_a_model_and_no_more(folder: Path) -> None:
    kept = put(folder / "other.gguf")
    put(folder / "big-00001-of-00002.gguf")
    put(folder / "big-00002-of-00002.gguf")
    put(folder / "saved" / "config.json")
    for name in ("big", "saved"):
        remove(files_to_remove(name))
    assert list(folder.iterdir()) == [kept]


def test_a_damaged_catalog_file_can_be_removed(folder: Path) -> None:
    """One of the wrong size is not listed as here, but it lies there."""
    path = put(folder / TINY.file_name, b"1")
    assert files_to_remove("smollm2") == [path]


def test_of_a_link_the_link_goes(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "config.json")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    remove(files_to_remove("linked"))
    assert not (folder / "linked").is_symlink()
    assert (tmp_path / "elsewhere" / "config.json").exists()


@pytest.mark.parametrize(
    "name", ["../outside", "", ".", "..", "/etc", "outside.gguf", "smollm2", "nothing"]
)
def test_what_is_not_there_is_not_removed(folder: Path, name: str) -> None:
    put(folder.parent / "outside.gguf")
    with pytest.raises(ModelNotFound, match="thirdeye list"):
        files_to_remove(name)


def test_a_hub_snapshot_is_not_ours(folder: Path) -> None:
    snapshot()
    with pytest.raises(ModelNotFound, match=r"the one folder this command deletes from.*hf cache"):
        files_to_remove("org/name--x")


def test_an_installed_model_is_not_ours(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "site" / TINY.file_name)
    monkeypatch.setattr(resolve, "_installed", lambda model: path)
    with pytest.raises(ModelNotFound, match="pip uninstall"):
        files_to_remove("smollm2")


def test_a_misspelt_name(folder: Path) -> None:
    put(folder / "mistral-7b.gguf")
    with pytest.raises(ModelNotFound, match=r"Did you mean 'mistral-7b'\?"):
        files_to_remove("mistal-7b")


def test_where_the_hub_keeps_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_directory() == tmp_path / "cache" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "/home/hub")
    assert hub_directory() == Path("/home/hub/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert hub_directory() == Path("/cache")
