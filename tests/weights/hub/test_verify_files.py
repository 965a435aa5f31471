"""`serve --verify`: the files are the published ones, or nothing is served."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.weights.hub.fake_hub import COMMIT, git_sha1
from thirdeye.server.launch import server_run
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.weights import resolve
from thirdeye.weights.catalog import SMOLLM2
from thirdeye.weights.errors import ModelDamaged
from thirdeye.weights.hub import verify_files
from thirdeye.weights.hub.chosen_files import RepositoryFile
from thirdeye.weights.hub.hub_name import HubName
from thirdeye.weights.hub.hub_store import HubRecord, folder_of, write_record
from thirdeye.weights.hub.verify_files import verify_model
from thirdeye.weights.paths import hub_directory, models_directory
from thirdeye.weights.pull import pull

WEIGHTS = bytes(range(256)) * 16
TINY = replace(
    SMOLLM2,
    distribution="no-such-distribution",
    member="x/tiny.gguf",
    member_size=len(WEIGHTS),
    member_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
)
SHARDS = {"config.json": b"{}", "model.safetensors": WEIGHTS, "tokenizer.json": b'{"a": 1}'}


@pytest.fixture(autouse=True)
def catalog_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The default model, where `pull` would have put it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for module in (resolve, verify_files):
        monkeypatch.setattr(module, "DEFAULT", TINY)
        monkeypatch.setattr(module, "CATALOG", {"smollm2": TINY})
    path = models_directory() / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(WEIGHTS)
    return path


def spoil(path: Path) -> None:
    """One bit, in the middle: size and header stay."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def recorded() -> tuple[Path, HubName]:
    """A model that `pull` fetched: large files with their SHA-256, small ones with git's SHA-1."""
    name = HubName("org/name")
    folder = folder_of(name)
    files = {}
    for path, raw in SHARDS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
        sha256 = hashlib.sha256(raw).hexdigest() if len(raw) > 100 else None
        files[path] = RepositoryFile(path, len(raw), sha256, git_sha1(raw))
    record = HubRecord(repository="org/name", revision=None, commit=COMMIT, files=files)
    write_record(folder, record)
    return folder, name


def snapshot(*, linked: bool) -> Path:
    """What huggingface_hub has fetched; on some systems it keeps copies in place of links."""
    repository = hub_directory() / "models--org--theirs"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for path, raw in SHARDS.items():
        name = hashlib.sha256(raw).hexdigest() if len(raw) > 100 else git_sha1(raw)
        (repository / "blobs" / name).write_bytes(raw)
        if linked:
            (folder / path).symlink_to(repository / "blobs" / name)
        else:
            (folder / path).write_bytes(raw)
    return folder


@pytest.mark.parametrize("spec", [None, "smollm2"])
def test_the_default_model(spec: str | None, catalog_file: Path) -> None:
    assert verify_model(spec) == len(WEIGHTS)
    spoil(catalog_file)
    with pytest.raises(ModelDamaged, match=r"tiny\.gguf is damaged.*'thirdeye pull smollm2'"):
        verify_model(spec)


@pytest.mark.parametrize("path", SHARDS)
def test_each_file_that_pull_has_fetched(path: str) -> None:
    folder, _ = recorded()
    assert verify_model("org/name") == sum(map(len, SHARDS.values()))
    spoil(folder / path)
    with pytest.raises(ModelDamaged, match=rf"{path} is damaged.*'thirdeye pull org/name'"):
        verify_model("org/name")


@pytest.mark.parametrize("path", SHARDS)
def test_each_file_that_another_program_has_fetched(path: str) -> None:
    folder = snapshot(linked=True)
    assert verify_model("org/theirs") == sum(map(len, SHARDS.values()))
    spoil((folder / path).resolve())
    with pytest.raises(ModelDamaged, match=rf"{path} is damaged"):
        verify_model("org/theirs")


def test_what_nobody_knows_a_hash_of_is_not_called_verified(tmp_path: Path) -> None:
    snapshot(linked=False)
    with pytest.raises(ModelDamaged, match=r"no hash is known.*'thirdeye pull org/theirs' fetches"):
        verify_model("org/theirs")
    (tmp_path / "own.gguf").write_bytes(WEIGHTS)
    with pytest.raises(ModelDamaged, match=r"no hash is known of .*own\.gguf"):
        verify_model(str(tmp_path / "own.gguf"))


def test_the_command_that_is_named_repairs_it(
    catalog_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(catalog_file)

    def fetched(*_: object) -> Path:
        catalog_file.write_bytes(WEIGHTS)
        return catalog_file

    monkeypatch.setattr("thirdeye.weights.pull._fetch", fetched)
    pull(TINY)
    assert verify_model() == len(WEIGHTS)


def test_serve_compares_only_if_it_is_told_to(
    catalog_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(catalog_file)
    server_run.verify(CheckpointSettings())
    assert capsys.readouterr().out == ""
    with pytest.raises(ModelDamaged):
        server_run.verify(CheckpointSettings(verify=True))
    catalog_file.write_bytes(WEIGHTS)
    server_run.verify(CheckpointSettings(verify=True))
    assert capsys.readouterr().out == "verified: the hashes of 0 MB are right\n"
