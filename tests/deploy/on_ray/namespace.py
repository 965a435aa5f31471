"""A network namespace with a loopback and nothing else: what listens in it is seen by nobody."""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

CLONE_NEWNET = 0x40000000  # setns(2)
HOLD = "ip link set lo up && echo up && exec sleep infinity"


class Namespace:
    def __init__(self) -> None:
        """Skips, loudly, where this machine makes none."""
        if os.getuid() != 0 or None in map(shutil.which, ("ip", "ss", "unshare")):
            pytest.skip("RAY SKIPPED: a network namespace wants root, iproute2 and util-linux")
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", HOLD], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            self._end()
            pytest.skip("RAY SKIPPED: no network namespace can be made here")
        self._there = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)

    def enter(self) -> None:
        """This thread's sockets, and the processes that it starts, are in it from now on."""
        switch(self._there)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.enter()
        try:
            yield
        finally:
            switch(here)
            os.close(here)

    def close(self) -> None:
        os.close(self._there)
        self._end()

    def _end(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


def switch(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
