"""Ranks of other hosts come in any order, among strangers, or not at all."""

import socket
import threading
from queue import SimpleQueue

import msgspec
import pytest

from thirdeye.server.engine.distributed import rank_link
from thirdeye.server.engine.distributed.handshake import Credentials, NotJoined, ask_to_join
from thirdeye.server.engine.distributed.rank_link import Heartbeat, RankLink
from thirdeye.server.engine.distributed.rank_listener import (
    HostAddress,
    OtherHosts,
    let_ranks_in,
)
from thirdeye.server.engine.distributed.rank_messages import FromRank, Measured
from thirdeye.server.engine.distributed.rank_process import RankProcess
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.engine.process.frames import pack_frame

OURS = Credentials(b"sixteen bytes or more", "f" * 64, "thirdeye 1 with torch 2")
DECODER = msgspec.msgpack.Decoder(FromRank)


def free_address() -> HostAddress:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return HostAddress("127.0.0.1", taken.getsockname()[1])


def come(where: HostAddress, who: Credentials) -> socket.socket:
    sock = socket.create_connection((where.host, where.port))
    try:
        ask_to_join(sock, who)
    except NotJoined:
        sock.close()
        raise
    return sock


def test_two_join_and_strangers_do_not(caplog: pytest.LogCaptureFixture) -> None:
    where, seen = free_address(), SimpleQueue[tuple[int, int]]()
    ended: SimpleQueue[list[str]] = SimpleQueue()
    others = OtherHosts(2, where, OURS, lambda *counts: seen.put(counts))

    def lead() -> None:
        joined = let_ranks_in(others)
        ended.put([one.host for one in joined])
        for one in joined:
            one.sock.close()

    with caplog.at_level("INFO"):
        thread = threading.Thread(target=lead)
        thread.start()
        assert seen.get(timeout=30) == (0, 2)
        wrong = msgspec.structs.replace(OURS, secret=b"another of the same length")
        with socket.create_connection((where.host, where.port)) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(NotJoined, match="secret"):
            come(where, wrong)
        first, second = come(where, OURS), come(where, OURS)
        thread.join()
    assert ended.get(timeout=30) == ["127.0.0.1", "127.0.0.1"]
    assert "who came from 127.0.0.1 is no rank" in caplog.text
    assert "may not join: its secret is another" in caplog.text
    with pytest.raises(ConnectionRefusedError):  # nobody else is waited for
        come(where, OURS)
    first.close()
    second.close()


def test_nobody_is_waited_for_for_ever() -> None:
    where = free_address()
    others = OtherHosts(2, where, OURS, lambda *_: None)
    with pytest.raises(EngineDead, match=rf"0 of 2 ranks .* `thirdeye rank MODEL --join {where}"):
        let_ranks_in(others, timeout=0.01)


def test_an_address_of_somebody_else() -> None:
    """192.0.2.0/24 is documentation's: no host has it."""
    others = OtherHosts(1, HostAddress("192.0.2.7", 7000), OURS, lambda *_: None)
    with pytest.raises(EngineDead, match=r"'--rank-address' 192\.0\.2\.7:7000 cannot be listened"):
        let_ranks_in(others)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x"])
def test_an_address_has_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be HOST:PORT, like 10\.0\.0\.1:7000"):
        HostAddress.parse(text)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


def test_signs_of_life_cross_between_messages_and_are_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rank_link, "HEARTBEAT", 0.001)
    one, other = tcp_pair()
    beating, listening = (
        RankLink(one, DECODER, is_remote=True),
        RankLink(other, DECODER, is_remote=False),
    )
    raw = [other.recv(1) for _ in range(3 * len(pack_frame(Heartbeat())))]  # three of them, by byte
    assert all(raw)
    for i in range(20):
        beating.send(Measured(i))
        assert listening.receive() == Measured(i)
    beating.close()
    with pytest.raises(ConnectionError):
        listening.receive()
    listening.close()


def test_a_host_that_is_silent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its cable were cut: no end of the stream, no message."""
    monkeypatch.setattr(rank_link, "SILENCE", 0.05)
    monkeypatch.setattr("thirdeye.server.engine.distributed.rank_process.SILENCE", 0.05)
    one, other = tcp_pair()
    why: SimpleQueue[str] = SimpleQueue()
    RankProcess(2, one, 60.0, why.put, how_it_ended=lambda: "is over", is_remote=True)
    assert why.get(timeout=30) == "Rank 2 has been silent for 0.05 seconds."
    one.close()
    other.close()
