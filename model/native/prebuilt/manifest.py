"""Libraries that came with the wheel: for machines without a compiler, and for a quick first start.

The wheel holds one for each level that its maker's compilers knew, and a manifest: the SHA-256 of
each library and of the sources that it was made of. One serves if it was made of the sources that
lie beside it, for a libc that is here, and is byte for byte what the manifest says; else kernels
are compiled, as they are in a checkout, which has none. `deploy/wheel_kernels.py` makes them.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thirdeye.model.native.build import SOURCES, Unavailable, files_of, fingerprint
from thirdeye.model.native.levels import Level, level_named
from thirdeye.model.native.seal import read_library

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A library's entry in the manifest."""

    file: str
    level: str
    sha256: str  # of the file
    sources_sha256: str  # of the C files and flags: `fingerprint`
    compiler: str  # the first line of what its --version says
    glibc: str  # the oldest that has all symbols


@dataclass(frozen=True, slots=True)
class Prebuilt:
    """A library of the wheel that serves here; it is used as a `Build` that is done."""

    library: Path
    level: Level

    @property
    def is_done(self) -> bool:
        return True

    def run(self, *, in_background: bool = False) -> None:
        """There is nothing left to do."""


def find_prebuilt(
    levels: Sequence[Level], folder: Path = FOLDER, sources: Path = SOURCES
) -> Prebuilt:
    """That of the first of these levels which has one that may serve. Raises `Unavailable` with
    the reasons where none has."""
    made = {each.level: each for each in read_manifest(folder)}
    reasons = []
    for level in levels:
        if level.name not in made:
            reasons.append(f"the wheel has no library for {level.name}")
        elif reason := why_refused(made[level.name], folder, sources):
            reasons.append(f"the wheel's library for {level.name} is refused: {reason}")
        else:
            return Prebuilt(folder / made[level.name].file, level)
    raise Unavailable("; ".join(reasons))


def read_manifest(folder: Path = FOLDER) -> list[Made]:
    """What the wheel has. Raises `Unavailable` where it has nothing, or none that can be read."""
    try:
        made = [Made(**entry) for entry in json.loads(read_library(folder / MANIFEST))]
    except FileNotFoundError as error:
        raise Unavailable("no library came with this installation") from error
    except (OSError, ValueError, TypeError) as error:
        raise Unavailable(f"{folder / MANIFEST} cannot be read: {error}") from error
    return made


def write_manifest(made: Sequence[Made], folder: Path) -> Path:
    path = folder / MANIFEST
    path.write_text(json.dumps([asdict(each) for each in made], indent=1) + "\n")
    return path


def why_refused(made: Made, folder: Path = FOLDER, sources: Path = SOURCES) -> str:
    """Why a library must not be loaded here; empty if it may."""
    try:
        expected = fingerprint(files_of(sources), level_named(made.level))
    except StopIteration:
        return "nobody knows this level"
    if made.sources_sha256 != expected:
        return f"it was made of other sources than those in {sources}"
    if is_older(here := glibc_here(), made.glibc):
        return f"it needs glibc {made.glibc}, here is {here or 'another libc'}"
    return why_damaged(folder / made.file)


def why_damaged(library: Path) -> str:
    """What is wrong with the bytes of a library that lies beside a manifest; empty if nothing is.
    Raises `Unavailable` if the manifest cannot be read."""
    return _look(library)[1]


def read_vouched(library: Path) -> bytes:
    """A library that lies beside a manifest, as the manifest has it. Raises `Unavailable`."""
    content, reason = _look(library)
    if reason:
        raise Unavailable(f"the wheel's library is refused: {reason}")
    return content


def _look(library: Path) -> tuple[bytes, str]:
    """The bytes, and what is wrong with them."""
    expected = next((m.sha256 for m in read_manifest(library.parent) if m.file == library.name), "")
    if not expected:
        return b"", f"{library} is not in the manifest"
    try:
        content = read_library(library)
    except OSError as error:
        return b"", f"{library} cannot be read: {error}"
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        return b"", (
            f"{library} is not what the manifest says (SHA-256 {found}); install the wheel again"
        )
    return content, ""


def is_of_a_wheel(library: Path) -> bool:
    """Whether it lies beside a manifest."""
    return (library.parent / MANIFEST).exists()


def glibc_here() -> str:
    """Its version; empty where there is another libc."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):  # musl, macOS
        return ""
    return version if name == "glibc" else ""


def is_older(version: str, needed: str) -> bool:
    """Whether 2.9 is asked for 2.14; nothing is older than everything."""
    return not version or _numbers(version) < _numbers(needed)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
