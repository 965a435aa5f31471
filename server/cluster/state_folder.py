"""The folder of a cluster: its token, what its head must find again, logs, and who runs it.

Only its owner may look into it: the token is all that Ray asks of whoever wants to run code there.
"""

import os
import secrets
import shlex
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from thirdeye.weights.paths import models_directory

MAX_CHARS = 36  # of its path: Unix sockets lie below, whose paths may have 107


class RunningCluster(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` writes down for the other commands."""

    pid: int  # of `up`
    address: str  # of Ray's head, HOST:PORT
    url: str  # where requests go
    apps: dict[str, str]  # the path of each model's app -> the model


class FolderUnusable(ValueError):
    """The text says why and which option helps."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    path: Path

    @classmethod
    def of(cls, asked: Path | None) -> "StateFolder":
        """Raises `FolderUnusable`."""
        path = (asked or models_directory().with_name("cluster")).expanduser().absolute()
        if len(str(path)) > MAX_CHARS:
            raise FolderUnusable(
                f"'--state-dir' {path} has {len(str(path))} characters, at most {MAX_CHARS} leave "
                "room for the names of sockets in it: say a shorter one."
            )
        return cls(path)

    def make(self) -> None:
        """Raises `FolderUnusable` if it is another's or open to others, OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.path.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise FolderUnusable(
                f"'--state-dir' {self.path} must be yours alone, as the cluster's token lies in "
                f"it: chmod 700 {self.path}"
            )
        if not self.token.exists():
            self.write(self.token, secrets.token_hex(32))

    def clear(self) -> None:
        """What an earlier cluster left, but for its token: none of its processes is there."""
        for folder in (self.ray, self.storage, self.haproxy):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def ray(self) -> Path:
        """Ray's sessions, with their logs."""
        return self.path / "ray"

    @property
    def storage(self) -> Path:
        """What the head knows of the cluster, and finds again when it is started anew."""
        return self.path / "gcs"

    @property
    def haproxy(self) -> Path:
        return self.path / "haproxy"

    @property
    def environment(self) -> Path:
        """The variables of Ray, for a shell."""
        return self.path / "environment"

    def variables(self) -> dict[str, str]:
        """This process's environment with that of the cluster."""
        lines = self.environment.read_text().splitlines()
        pairs = (shlex.split(line)[1].split("=", 1) for line in lines)
        return {**os.environ, **dict(pairs)}  # noqa: TID251 (handed on)

    def write(self, file: Path, text: str, mode: int = 0o600) -> None:
        """As a whole or not at all."""
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
            opened.write(text)
        part.replace(file)

    def remember(self, running: RunningCluster) -> None:
        self.write(self.path / "running.json", msgspec.json.encode(running).decode())

    def forget(self) -> None:
        (self.path / "running.json").unlink(missing_ok=True)

    def running(self) -> RunningCluster | None:
        """The cluster that is up, if one is: its `up` must live."""
        try:
            text = (self.path / "running.json").read_bytes()
        except OSError:
            return None
        found = msgspec.json.decode(text, type=RunningCluster)
        return found if lives(found.pid) else None


def lives(pid: int) -> bool:
    """Whether a process has not ended; that nobody has asked how is no life."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
