"""Ray's processes on this machine: started by Ray's own command, found and ended by their ids.

`ray stop` would end every Ray of the machine. Ours carry the cluster's folder in their environment.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from thirdeye.server.cluster.ray_environment import OWNER

STARTING = 300.0  # seconds
ENDING = 10.0  # seconds after SIGTERM
GCS, RAYLET = "gcs_server", "raylet"  # what keeps the cluster's state, what runs its actors


class HeadFailed(RuntimeError):
    """The text has the last that Ray said."""


class RayHead:
    """`variables` go to every process beside those that are there."""

    def __init__(self, folder: Path, command: list[str], variables: Mapping[str, str]) -> None:
        self._folder, self._command = folder, command
        self.environment = {**os.environ, **variables}  # noqa: TID251 (handed on)
        self._gcs: list[str] = []  # the command that Ray started it by

    def start(self) -> None:
        """Raises `HeadFailed`."""
        try:
            done = subprocess.run(
                self._command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=STARTING,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HeadFailed(f"Ray's head has not started within {STARTING:g} s.") from None
        if done.returncode:
            raise HeadFailed(f"Ray's head has not started: {(done.stderr or done.stdout)[-2000:]}")
        gcs = self.pid_of(GCS)
        if gcs is None:
            raise HeadFailed(f"Ray's head ended at once: see {self._folder}/ray.")
        self._gcs = command_of(gcs)

    def pid_of(self, program: str) -> int | None:
        return next((pid for pid in self.pids() if program_of(pid) == program), None)

    def restart_gcs(self) -> None:
        """Start it again as Ray did; it reads what it knew from the cluster's folder."""
        with (self._folder / "gcs.log").open("ab") as log:
            subprocess.Popen(
                self._gcs,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Every process of the cluster on this machine but this one."""
        return pids_of(self._folder)

    def stop(self) -> None:
        """End what is left, whatever it does. Afterwards there is none."""
        end_all(self._folder)


def pids_of(folder: Path) -> list[int]:
    mark = f"{OWNER}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_all(folder: Path) -> None:
    for number, seconds in ((signal.SIGTERM, ENDING), (signal.SIGKILL, ENDING)):
        ends = time.monotonic() + seconds
        for pid in pids_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while pids_of(folder) and time.monotonic() < ends:
            reap()
            time.sleep(0.1)


def reap() -> None:
    """Children that have ended are no processes any more."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def command_of(pid: int) -> list[str]:
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")][:-1]


def program_of(pid: int) -> str:
    """The name of its file; empty if it has ended."""
    try:
        return Path(command_of(pid)[0]).name
    except (OSError, IndexError):
        return ""
