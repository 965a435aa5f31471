"""API keys as an operator writes them: one a line, bare or with a name and scopes.

    KEY                              may use and inspect; its name is the start of its digest
    NAME SCOPE[,SCOPE] KEY           named, and may do what it says
    NAME SCOPE[,SCOPE] sha256:HEX    the same, and the file does not hold the key

Only digests are kept. A name may stand on several lines, so that a key can be replaced without a
gap: they are one caller, with one set of scopes. No message repeats a line: it holds a key.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thirdeye.server.operators_file import read_operators_file

USE, INSPECT, OPERATE, GATEWAY = SCOPES = ("use", "inspect", "operate", "gateway")
BARE_SCOPES = frozenset({USE, INSPECT})
HASHED = "sha256:"
NAME_CHARS = 16  # of the digest, where there is no other name

_NAME = re.compile(r"(?![0-9a-f]{16}$)[A-Za-z0-9._@-]{1,64}")  # never like a digest's start
_HEX = re.compile(r"[0-9a-f]{64}")


class NoGateway(Exception):
    """A header is set in which nobody may name callers."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    name: str
    scopes: frozenset[str]
    digest: bytes  # SHA-256
    is_bare: bool


def parse_key(line: str) -> ApiKey:
    """Raises ValueError."""
    words = line.split()
    if len(words) == 1:
        digest = digest_of(words[0])
        return ApiKey(digest.hex()[:NAME_CHARS], BARE_SCOPES, digest, is_bare=True)
    if len(words) != 3:
        raise ValueError("a line is KEY, or NAME SCOPE[,SCOPE] KEY")
    name, scopes = words[0], frozenset(words[1].split(","))
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 of the characters A-Z a-z 0-9 . _ @ -")
    if not scopes <= set(SCOPES):
        raise ValueError(f"the scopes are {', '.join(SCOPES)}, with commas between")
    return ApiKey(name, scopes, digest_of(words[2]), is_bare=False)


def digest_of(word: str) -> bytes:
    """Of a key, or the one that is written there. Raises ValueError."""
    if not word.startswith(HASHED):
        return hashlib.sha256(word.encode()).digest()
    if not _HEX.fullmatch(written := word.removeprefix(HASHED).lower()):
        raise ValueError("behind 'sha256:' stand 64 hexadecimal digits")
    return bytes.fromhex(written)


def parse_keys(lines: Sequence[str]) -> list[ApiKey]:
    """Each line's key; of several lines with one key the last. The only key of a server that is
    bare may do everything: there is nobody to hide from. Raises ValueError."""
    keys = list({key.digest: key for key in map(parse_key, lines)}.values())
    scopes: dict[str, frozenset[str]] = {}
    for key in keys:
        if scopes.setdefault(key.name, key.scopes) != key.scopes:
            raise ValueError(f"the lines of '{key.name}' differ in their scopes")
    if len(keys) == 1 and keys[0].is_bare:
        return [ApiKey(keys[0].name, frozenset(SCOPES), keys[0].digest, is_bare=True)]
    return keys


def check_gateway(caller_header: str | None, lines: Sequence[str]) -> None:
    """Raises `NoGateway` if there is a header for names of callers and no key that may send it."""
    if caller_header and not any(GATEWAY in key.scopes for key in parse_keys(lines)):
        raise NoGateway(
            f"'--caller-header {caller_header}': no key has the scope '{GATEWAY}', so nobody may "
            "send it. Give the gateway a line 'NAME use,gateway KEY' in the --api-key-file."
        )


def keys_in(file: Path) -> tuple[str, ...]:
    """The lines of keys; # starts a comment. Raises ValueError: also for a file without a key,
    which would leave the server open to all."""
    try:
        lines = [line.strip() for line in read_operators_file(file).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"Cannot be read ({reason})") from None
    found = {i: line for i, line in enumerate(lines, 1) if line and not line.startswith("#")}
    if not found:
        raise ValueError("Holds no key: one a line, please")
    for number, line in found.items():
        try:
            parse_key(line)
        except ValueError as error:
            raise ValueError(f"Line {number}: {error}") from None
    parse_keys([*found.values()])
    return tuple(found.values())


def check_key(word: str) -> str:
    """A key from the command line, which has no name. Raises ValueError."""
    if len(word.split()) != 1:
        raise ValueError("A key has no spaces: names and scopes are for --api-key-file")
    parse_key(word)
    return word


def check_key_file(file: Path) -> Path:
    """Raises ValueError."""
    keys_in(file)
    return file
