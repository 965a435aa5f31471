"""A damaged library is never loaded and is made again, wherever the damage is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from thirdeye.model.native.build import Unavailable
from thirdeye.model.native.library import Library
from thirdeye.model.native.seal import SEAL_BYTES, is_sealed, seal_in_place

BODY = bytes(range(256)) * 40


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "without its seal": lambda content: content[:-SEAL_BYTES],
    "last byte lost": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "first bit": lambda content: flipped(content, 0),
    "a bit inside": lambda content: flipped(content, len(content) // 2),
    "a bit of the seal": lambda content: flipped(content, len(content) - 1),
    "zeros": lambda content: bytes(len(content)),
}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    made, target = tmp_path / "made", tmp_path / "kernels.so"
    made.write_bytes(BODY)
    seal_in_place(made, target)
    assert not made.exists()
    return target


def test_a_whole_file_is_sealed(sealed: Path) -> None:
    assert is_sealed(sealed)
    assert sealed.read_bytes().startswith(BODY)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_seen_and_never_loaded(sealed: Path, damage: Callable[[bytes], bytes]) -> None:
    sealed.write_bytes(damage(sealed.read_bytes()))
    assert not is_sealed(sealed)
    with pytest.raises(Unavailable, match="damaged"):
        Library(sealed)


def test_what_is_not_there_has_no_seal(tmp_path: Path) -> None:
    assert not is_sealed(tmp_path / "kernels.so")
    assert not is_sealed(tmp_path)
