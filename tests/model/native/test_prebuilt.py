"""A library of the wheel serves if it is what its manifest says, and is refused with the reason."""

import ctypes
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from thirdeye.model.native.build import Unavailable, files_of, fingerprint, plan_build
from thirdeye.model.native.levels import LEVELS, level_named, levels_here
from thirdeye.model.native.library import Library
from thirdeye.model.native.prebuilt.manifest import (
    MANIFEST,
    Made,
    find_prebuilt,
    glibc_here,
    is_older,
    read_manifest,
    why_refused,
    write_manifest,
)

pytestmark = pytest.mark.skipif(
    not levels_here(), reason="NATIVE TESTS SKIPPED: the processor has no AVX2"
)

HERE = levels_here()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    directory = tmp_path / "sources"
    directory.mkdir()
    (directory / "answer.c").write_text("int answer(void) {return 42;}\nvoid run(void) {}\n")
    return directory


@pytest.fixture
def wheel(tmp_path: Path, sources: Path) -> Path:
    """A folder as in a wheel: a library for the best level here, and one for another machine."""
    folder = tmp_path / "prebuilt"
    folder.mkdir()
    build = plan_build(tmp_path / "cache", sources=sources)
    build.run()
    content = build.library.read_bytes()
    other = next(level for level in LEVELS if level not in HERE)
    made = []
    for level, body in ((build.level, content), (other, content + b"of another machine")):
        file = f"kernels-{level.name}.so"
        (folder / file).write_bytes(body)
        sha256 = hashlib.sha256(body).hexdigest()
        made.append(
            Made(file, level.name, sha256, fingerprint(files_of(sources), level), "cc 1", "2.14")
        )
    write_manifest(made, folder)
    return folder


def test_it_is_found_and_loaded(wheel: Path, sources: Path) -> None:
    found = find_prebuilt(HERE, wheel, sources)
    assert found.is_done
    found.run()
    assert found.level is HERE[0]
    assert ctypes.CDLL(str(found.library)).answer() == 42
    library = Library(found.library)
    assert library.is_of_a_wheel
    assert library.isa == HERE[0].name
    assert library.function("answer", result=ctypes.c_int)() == 42


@pytest.mark.parametrize("at", [0, 5000, -1], ids=["first byte", "inside", "last byte"])
def test_a_tampered_one_is_refused_before_it_is_loaded(
    wheel: Path, sources: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is chosen, and once more where it would be loaded: its code never runs."""
    path = wheel / f"kernels-{HERE[0].name}.so"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=r"refused: .*not what the manifest says \(SHA-256 "):
        find_prebuilt(HERE[:1], wheel, sources)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(Unavailable, match="the wheel's library is refused"):
        Library(path)


def test_one_that_nobody_vouches_for_is_refused(wheel: Path) -> None:
    (wheel / "kernels-avx2-more.so").write_bytes(b"")
    with pytest.raises(Unavailable, match="is not in the manifest"):
        Library(wheel / "kernels-avx2-more.so")


def test_other_sources(wheel: Path, sources: Path) -> None:
    """A line was changed where the wheel lies: what was compiled before does not stand for it."""
    (sources / "answer.c").write_text("int answer(void) {return 43;}\n")
    with pytest.raises(Unavailable, match="was made of other sources"):
        find_prebuilt(HERE[:1], wheel, sources)


def test_reasons_to_do_without(wheel: Path, sources: Path, tmp_path: Path) -> None:
    entry = read_manifest(wheel)[0]
    assert why_refused(entry, wheel, sources) == ""
    assert "needs glibc 99.1" in why_refused(replace(entry, glibc="99.1"), wheel, sources)
    assert "nobody knows" in why_refused(replace(entry, level="sse"), wheel, sources)
    assert "not in the manifest" in why_refused(replace(entry, file="no.so"), wheel, sources)
    (wheel / entry.file).unlink()
    assert "cannot be read" in why_refused(entry, wheel, sources)
    write_manifest([], wheel)
    with pytest.raises(Unavailable, match=f"the wheel has no library for {HERE[0].name}"):
        find_prebuilt(HERE, wheel, sources)
    for damaged in ("", "[", "1", '[{"file": 1}]', "[1]"):
        (wheel / MANIFEST).write_text(damaged)
        with pytest.raises(Unavailable, match="cannot be read"):
            find_prebuilt(HERE, wheel, sources)
    with pytest.raises(Unavailable, match="no library came with this installation"):
        find_prebuilt(HERE, tmp_path / "checkout", sources)


def test_a_lesser_level_serves_where_the_best_is_damaged(wheel: Path, sources: Path) -> None:
    entry = read_manifest(wheel)[0]
    level = level_named("avx2") if HERE[0].machine == "x86_64" else HERE[0]
    lesser = replace(
        entry,
        level=level.name,
        sources_sha256=fingerprint(files_of(sources), level),
    )
    damaged = replace(entry, sha256="0" * 64)
    lesser = replace(lesser, file="lesser.so")
    (wheel / "lesser.so").write_bytes((wheel / entry.file).read_bytes())
    write_manifest([damaged, lesser] if level is not HERE[0] else [lesser], wheel)
    assert find_prebuilt(HERE, wheel, sources).level is level


def test_versions_are_compared_as_numbers() -> None:
    assert is_older("2.9", "2.14")
    assert not is_older("2.14", "2.14")
    assert not is_older("2.36", "2.2.5")
    assert is_older("", "2.0"), "another libc"
    assert not glibc_here() or glibc_here()[0].isdigit()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "endless", "huge"])
@pytest.mark.parametrize("which", ["library", "manifest"])
def test_what_has_no_end_is_refused(wheel: Path, sources: Path, kind: str, which: str) -> None:
    path = wheel / (MANIFEST if which == "manifest" else f"kernels-{HERE[0].name}.so")
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(Unavailable, match="cannot be read"):
        find_prebuilt(HERE[:1], wheel, sources)
