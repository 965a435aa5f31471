"""A cache of compiled kernels that a power cut or a full disk has left: what is damaged goes."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.draws import draws
from thirdeye.model.loading.compiled_cache import drop_damaged, is_whole_elf

ELF = Path(sys.executable).resolve().read_bytes()  # as a cubin is one
GOOD = {
    "__grp__k.json": b'{"child_paths": {}}',
    "k.json": b'{"name": "k"}',
    "k.cubin": ELF,
    "k.ptx": b".version 8.0",
    "launcher.so": ELF,
    "lock": b"",
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two kernels, and a folder of one that is being written."""
    for key in ("DAMAGED", "GOOD"):
        (tmp_path / key / "tmp.pid_1_2").mkdir(parents=True)
        for name, raw in GOOD.items():
            (tmp_path / key / name).write_bytes(raw)
    return tmp_path


def test_what_is_whole_stays(cache: Path) -> None:
    assert drop_damaged(cache) == []
    assert (cache / "GOOD" / "k.cubin").read_bytes() == ELF


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"lock"}))
def test_an_empty_file_takes_its_kernel_along(cache: Path, name: str) -> None:
    (cache / "DAMAGED" / name).write_bytes(b"")
    assert drop_damaged(cache) == ["DAMAGED"]
    assert sorted(folder.name for folder in cache.iterdir()) == ["GOOD"]


@pytest.mark.parametrize("name", ["__grp__k.json", "k.json", "k.cubin", "launcher.so"])
@pytest.mark.parametrize("raw", [b"\0" * 100, b"{", ELF[:100], ELF[:-1], b"[" * 100_000])
def test_a_cut_file_takes_its_kernel_along(cache: Path, name: str, raw: bytes) -> None:
    (cache / "DAMAGED" / name).write_bytes(raw)
    assert drop_damaged(cache) == ["DAMAGED"]


@pytest.mark.parametrize("kind", ["pipe", "loop", "endless"])
def test_what_is_no_file_takes_its_kernel_along(cache: Path, kind: str) -> None:
    path = cache / "DAMAGED" / "k.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("k.json" if kind == "loop" else "/dev/zero")
    assert drop_damaged(cache) == ["DAMAGED"]


def test_no_cache_is_no_trouble(tmp_path: Path) -> None:
    assert drop_damaged(tmp_path / "none") == []
    (tmp_path / "file").write_text("x")
    assert drop_damaged(tmp_path / "file") == []
    assert drop_damaged(tmp_path) == []


@draws(60, 1000)
@given(st.integers(0, len(ELF) - 1))
def test_an_elf_file_is_known_to_be_cut_wherever_it_is(size: int) -> None:
    assert not is_whole_elf(ELF[:size])


def test_a_whole_one_is_known() -> None:
    assert is_whole_elf(ELF)
