"""Two hosts that share a secret find out that they do, and that they may share a model.

Each proves that it knows the secret, by HMAC-SHA256 over both sides' fresh random numbers, and says
it to nobody. Then versions and checkpoints are compared: ranks of two versions may count
differently, and ranks of two checkpoints would answer with nonsense. Both messages and what follows
cross unencrypted: the network between the hosts has to be the operator's own.

Nothing here imports torch: a rank's host joins before it loads.
"""

import contextlib
import hashlib
import hmac
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from thirdeye.server import logs
from thirdeye.server.engine.process.frames import FrameReader, pack_frame
from thirdeye.server.version import VERSION, version_of

PATIENCE = 10.0  # seconds for all of it: a stranger that says little is in nobody's way for long
MOST_BYTES = 4096  # of a message from whom we do not know
NONCE_BYTES = 32


class Challenge(msgspec.Struct, frozen=True, tag=True):
    """Rank 0 begins."""

    nonce: bytes


class Claim(msgspec.Struct, frozen=True, tag=True):
    """Who joins, and the proof that it may."""

    nonce: bytes
    versions: str
    fingerprint: str
    proof: bytes


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """Rank 0's own proof: what it says from here on is obeyed."""

    proof: bytes


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Why not, for the operator of the rank that wanted to join."""

    reason: str


class NotJoined(Exception):
    """The two cannot work together. The message names why, and the way out."""


ANSWERS = msgspec.msgpack.Decoder(Accepted | Refused)

T = TypeVar("T")


class Credentials(msgspec.Struct, frozen=True):
    """What both sides have to have in common."""

    secret: bytes
    fingerprint: str  # of the checkpoint, see `thirdeye.weights.fingerprint`
    versions: str

    @classmethod
    def of(cls, secret: bytes, fingerprint: str) -> "Credentials":
        """With the versions that are installed here."""
        torch = version_of("torch", "unknown").partition("+")[0]  # a build for CUDA says +cu130
        return cls(secret, fingerprint, f"thirdeye {VERSION} with torch {torch}")

    def proof(self, role: str, *parts: bytes) -> bytes:
        """That `role` knows the secret. Each part's length is in it: no two lists are the same."""
        digest = hmac.new(self.secret, role.encode(), hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()

    def rank_proof(self, nonce: bytes, claim: Claim) -> bytes:
        about = (claim.versions.encode(), claim.fingerprint.encode())
        return self.proof("rank", nonce, claim.nonce, *about)

    def leader_proof(self, nonce: bytes, claim: Claim) -> bytes:
        return self.proof("leader", nonce, claim.nonce)


def admit(sock: socket.socket, own: Credentials) -> None:
    """Rank 0's side. Raises `NotJoined`, which the other side is told as well; or OSError, EOFError
    or msgspec.MsgspecError for somebody who is no rank."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    with _in_time(sock):
        sock.sendall(pack_frame(Challenge(nonce)))
        claim = _read(sock, msgspec.msgpack.Decoder(Claim))
        if reason := _why_not(claim, nonce, own):
            sock.sendall(pack_frame(Refused(reason)))
            raise NotJoined(reason)
        sock.sendall(pack_frame(Accepted(own.leader_proof(nonce, claim))))


def _why_not(claim: Claim, nonce: bytes, own: Credentials) -> str:
    if not hmac.compare_digest(claim.proof, own.rank_proof(nonce, claim)):
        return "its secret is another: give both sides the same '--rank-secret-file'."
    if claim.versions != own.versions:
        theirs = logs.clean(claim.versions)
        return f"it is {theirs}, rank 0 is {own.versions}: install the same on both hosts."
    if claim.fingerprint != own.fingerprint:
        return "its checkpoint is another: both hosts need the same files of the same model."
    return ""


def ask_to_join(sock: socket.socket, own: Credentials) -> None:
    """The joining side. Raises `NotJoined` with rank 0's reason, or because it is no rank 0 of
    ours; or OSError, EOFError or msgspec.MsgspecError if nothing sensible answers."""
    with _in_time(sock):
        challenge = _read(sock, msgspec.msgpack.Decoder(Challenge))
        claim = Claim(secrets.token_bytes(NONCE_BYTES), own.versions, own.fingerprint, b"")
        proof = own.rank_proof(challenge.nonce, claim)
        sock.sendall(pack_frame(msgspec.structs.replace(claim, proof=proof)))
        answer = _read(sock, ANSWERS)
    if isinstance(answer, Refused):
        raise NotJoined(logs.clean(answer.reason))
    if not hmac.compare_digest(answer.proof, own.leader_proof(challenge.nonce, claim)):
        raise NotJoined("who answers there does not know the secret: it is not your rank 0.")


@contextlib.contextmanager
def _in_time(sock: socket.socket) -> Iterator[None]:
    """Whoever sends a byte now and then is cut off as well."""
    timer = threading.Timer(PATIENCE, sock.shutdown, (socket.SHUT_RDWR,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(sock: socket.socket, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    return FrameReader(decoder, MOST_BYTES).read(sock)
