"""Versions with known holes that would matter here, kept by hand.

`make audit` asks the public databases about every package; it needs a network, and this does not.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hole:
    package: str
    fixed_in: str  # empty: it is not to be there at all
    what: str


HOLES = (
    Hole("starlette", "1.0.1", "CVE-2026-48710: a Host header gets around keys by path"),
    Hole("starlette", "0.49.1", "CVE-2025-62727: a Range header costs quadratic time"),
    Hole("jinja2", "3.1.6", "CVE-2025-27516: a template leaves the sandbox"),
    Hole("h11", "0.16", "CVE-2025-43859: requests are smuggled by chunks"),
    Hole("torch", "2.10", "CVE-2026-24747: weights_only runs code (no pickle is loaded here)"),
    Hole("python-multipart", "", "CVE-2026-53539 and others: no route takes a form"),
    Hole("multipart", "", "CVE-2026-28356: no route takes a form"),
    Hole("orjson", "", "CVE-2025-67221: deep JSON crashes; msgspec reads it here"),
    Hole("xgrammar", "", "CVE-2026-25048: a deep grammar crashes"),
    Hole("pyzmq", "", "pickles over sockets, elsewhere: the engine has a socket pair"),
)
