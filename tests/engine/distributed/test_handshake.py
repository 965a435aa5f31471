"""Two hosts that share a secret, a version and a checkpoint; and everybody else."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from thirdeye.server.engine.distributed import handshake
from thirdeye.server.engine.distributed.handshake import (
    Accepted,
    Challenge,
    Claim,
    Credentials,
    NotJoined,
    admit,
    ask_to_join,
)
from thirdeye.server.engine.process.frames import LENGTH, FrameReader, pack_frame

OURS = Credentials(b"sixteen bytes or more", "f" * 64, "thirdeye 1 with torch 2")
NO_RANK = (OSError, EOFError, msgspec.MsgspecError)

Outcome = Exception | None


def both(leader: Credentials, rank: Credentials) -> tuple[Outcome, Outcome]:
    """What each side has to say of the other."""
    return meet(lambda sock: admit(sock, leader), lambda sock: ask_to_join(sock, rank))


def meet(
    leader: Callable[[socket.socket], object], rank: Callable[[socket.socket], object]
) -> tuple[Outcome, Outcome]:
    ends = socket.socketpair()
    outcomes: list[Outcome] = [None, None]

    def run(place: int, act: Callable[[socket.socket], object]) -> None:
        with ends[place] as sock:
            try:
                act(sock)
            except (NotJoined, *NO_RANK) as error:
                outcomes[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in ((0, leader), (1, rank))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes[0], outcomes[1]


def read_to_its_end(sock: socket.socket) -> None:
    """Until the other side has said all, or cuts this one off."""
    while sock.recv(1 << 16):
        pass


def test_who_has_all_in_common_is_in() -> None:
    assert both(OURS, OURS) == (None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret": b"another, as long as it"}, "secret is another"),
        (
            {"versions": "thirdeye 1 with torch 3"},
            "with torch 3, rank 0 is thirdeye 1 with torch 2",
        ),
        ({"fingerprint": "e" * 64}, "checkpoint is another"),
        ({"versions": "\x1b[2J"}, r"it is \?\[2J"),
    ],
)
def test_both_sides_are_told_what_differs(change: dict[str, Any], words: str) -> None:
    for outcome in both(OURS, msgspec.structs.replace(OURS, **change)):
        with pytest.raises(NotJoined, match=words):
            raise outcome or AssertionError("it was let in")


def test_a_rank_obeys_nobody_who_does_not_know_the_secret() -> None:
    """Somebody else at rank 0's address accepts everything: the rank would load what it says."""

    def impostor(sock: socket.socket) -> None:
        sock.sendall(pack_frame(Challenge(bytes(32))))
        FrameReader(msgspec.msgpack.Decoder(Claim)).read(sock)
        sock.sendall(pack_frame(Accepted(bytes(32))))

    _, outcome = meet(impostor, lambda sock: ask_to_join(sock, OURS))
    assert "not your rank 0" in str(outcome)


def test_a_claim_is_good_once() -> None:
    """What was overheard does not open the door again: the numbers are fresh each time."""
    heard: list[Claim] = []

    def overheard(sock: socket.socket) -> None:
        challenge = FrameReader(msgspec.msgpack.Decoder(Challenge)).read(sock)
        claim = Claim(bytes(32), OURS.versions, OURS.fingerprint, b"")
        proof = OURS.rank_proof(challenge.nonce, claim)
        heard.append(msgspec.structs.replace(claim, proof=proof))
        sock.sendall(pack_frame(heard[0]))
        read_to_its_end(sock)

    def replay(sock: socket.socket) -> None:
        sock.sendall(pack_frame(heard[0]))
        read_to_its_end(sock)

    assert meet(lambda sock: admit(sock, OURS), overheard)[0] is None
    assert "secret" in str(meet(lambda sock: admit(sock, OURS), replay)[0])


@pytest.mark.parametrize(
    "sent",
    [
        LENGTH.pack(0xFFFFFFFF),  # four gigabytes are not made room for
        LENGTH.pack(3) + b"abc",
        pack_frame(Challenge(bytes(32))),
        b"",
    ],
    ids=["large", "garbage", "another message", "nothing"],
)
def test_a_stranger_is_no_rank(sent: bytes) -> None:
    outcome, _ = meet(lambda sock: admit(sock, OURS), lambda sock: sock.sendall(sent))
    assert isinstance(outcome, NO_RANK)


@pytest.mark.parametrize("is_dripping", [False, True])
def test_a_stranger_takes_so_much_time_and_no_more(
    is_dripping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that says nothing, and one that begins a message and never ends it."""
    monkeypatch.setattr(handshake, "PATIENCE", 0.05)

    def wait(sock: socket.socket) -> None:
        if is_dripping:
            sock.sendall(LENGTH.pack(100) + b"x")
        read_to_its_end(sock)

    outcome, _ = meet(lambda sock: admit(sock, OURS), wait)
    assert isinstance(outcome, NO_RANK)
