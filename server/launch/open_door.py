"""Warnings beside the ready line: of a server without a key that others reach, and of keys that
other users of this machine can read."""

import ipaddress
import stat
from pathlib import Path
from urllib.parse import urlsplit

from thirdeye.server.launch.console import one_line
from thirdeye.server.settings.api_keys import HASHED, keys_in


def open_door_line(url: str, *, has_key: bool) -> list[str]:
    """`url` has the address that the socket is bound to, and not the words that were asked for: an
    empty `--host` is all addresses, and a name may be any."""
    host = urlsplit(url).hostname or ""
    if has_key or is_loopback(host):
        return []
    reached = "any of its addresses" if is_every(host) else host
    return [
        f"  WARNING: anybody who reaches this machine ({reached}) may use the model: set "
        "--api-key-file (or THIRDEYE_API_KEY), or listen on 127.0.0.1"
    ]


def open_keys_line(file: Path | None) -> list[str]:
    """Hashes in a file may be read by anybody, keys may not."""
    if file is None or not is_read_by_all(file):
        return []
    return [
        "  WARNING: every user of this machine can read the keys of --api-key-file: chmod 600 "
        f"{one_line(str(file))}, or keep their hashes there (sha256:...)"
    ]


def is_read_by_all(file: Path) -> bool:
    """Whether it holds a key as it is sent, and all may read it. What a folder above forbids is not
    looked at."""
    try:
        if not file.stat().st_mode & stat.S_IROTH:
            return False
        return any(not line.split()[-1].startswith(HASHED) for line in keys_in(file))
    except (OSError, ValueError):  # it is gone, or being written: the next reading says so
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_every(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
