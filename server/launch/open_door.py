"""Who reaches a server that asks for no key: a warning where that is anybody but this machine."""

import ipaddress
from urllib.parse import urlsplit


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
