"""Heads that have been refused, so that the next request with one of them is not parsed again.

A head is the same if each of its bytes is but the digits of the body's length: parsers make the
same of it, so whoever has this head is whoever was refused. Kept is a hash, as a head may hold a
key: another head of the same hash would be refused, as all are then, and nothing more.
"""

import re
from collections import OrderedDict
from typing import NamedTuple

from thirdeye.server.asgi_extension import Repeat

MAX_HEADS = 1024
MAX_HEAD_BYTES = 4096
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n", re.IGNORECASE)
# Another framing of the body, or an answer that does not end the exchange.
_OTHERS = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade):", re.IGNORECASE)


class KnownHead(NamedTuple):
    repeat: Repeat
    keep_alive: bool


class KnownHeads:
    """The latest ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, KnownHead] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._known)

    def get(self, head: int) -> KnownHead | None:
        return self._known.get(head)

    def note(self, head: int, repeat: Repeat, keep_alive: bool) -> None:
        self._known[head] = KnownHead(repeat, keep_alive)
        if len(self._known) > MAX_HEADS:
            self._known.popitem(last=False)


def may_be_noted(data: bytes) -> bool:
    """Whether such a message, as long as its head says, is always one exchange."""
    return _OTHERS.search(data, 0, MAX_HEAD_BYTES) is None


def head_of(data: bytes) -> int | None:
    """Of one whole message and nothing else; None if it is not that, or not certain to be."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
    length = _LENGTH.search(data, 0, end)
    if length is None or len(data) - end != int(length[1]):
        return None
    return hash(data[: length.start(1)] + data[length.end(1) : end])
