"""Where ranks of other hosts join rank 0: a port, open until all have come."""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec

from thirdeye.server.engine.distributed.handshake import Credentials, NotJoined, admit
from thirdeye.server.engine.interface.types import EngineDead

logger = logging.getLogger(__name__)

JOIN_TIMEOUT = 600.0  # seconds until all are there: people start them by hand

OnJoined = Callable[[int, int], object]  # how many have joined, and of how many


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A host by name or number, and a port of it."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`HOST:PORT`. Raises ValueError, which names what is wrong."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"must be HOST:PORT, like 10.0.0.1:7000, got {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OtherHosts:
    """Ranks that run on other hosts: how many, where they join, and what they must have."""

    count: int
    address: HostAddress
    credentials: Credentials
    on_joined: OnJoined


@dataclass(frozen=True, slots=True)
class JoinedRank:
    """A rank of another host, once it is let in."""

    sock: socket.socket
    host: str


def let_ranks_in(others: OtherHosts, timeout: float = JOIN_TIMEOUT) -> list[JoinedRank]:
    """Wait for all of them, so many seconds at most. Who cannot take part is told why, and logged,
    and the wait goes on.

    Raises `EngineDead` if the address is none of this host's, or if they do not come in time.
    """
    where, count = others.address, others.count
    try:
        listener = socket.create_server((where.host, where.port))
    except OSError as error:
        raise EngineDead(
            f"'--rank-address' {where} cannot be listened on: {error.strerror or error}."
        ) from error
    joined: list[JoinedRank] = []
    deadline = time.monotonic() + timeout
    logger.info("ranks of other hosts join here: thirdeye rank MODEL --join %s", where)
    with listener:
        while len(joined) < count:
            others.on_joined(len(joined), count)
            listener.settimeout(max(deadline - time.monotonic(), 1e-3))  # 0 would not wait at all
            try:
                sock, (host, *_) = listener.accept()
            except TimeoutError:
                raise EngineDead(
                    f"{len(joined)} of {count} ranks of other hosts have joined within "
                    f"{timeout:g} seconds: run `thirdeye rank MODEL --join {where}` on each."
                ) from None
            if is_rank(sock, host, others.credentials):
                joined.append(JoinedRank(sock, host))
    others.on_joined(count, count)
    return joined


def is_rank(sock: socket.socket, host: str, own: Credentials) -> bool:
    """Whether who has come takes part."""
    try:
        admit(sock, own)
    except NotJoined as why:
        logger.warning("a rank on %s may not join: %s", host, why)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        logger.warning("who came from %s is no rank: %s", host, type(error).__name__)
    else:
        logger.info("a rank on %s has joined", host)
        return True
    sock.close()
    return False
