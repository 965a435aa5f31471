"""Starts the engine's process, the first time before anybody can use it.

The engine imports torch for a second; the server reads its settings, imports its web framework and
opens the tokenizer for as long. Side by side they take half the time. So this imports little.
"""

import os
import sys
from types import TracebackType
from typing import Self

from thirdeye.server.engine.process.spawn import Spawned, spawn

SPIN = {"GOMP_SPINCOUNT": "20000"}  # turns of a loop before a waiting thread sleeps
SAFE_PATH = {"PYTHONSAFEPATH": "1"}  # as -P: the folder it was started in holds data, not modules
LOOPBACK = {"NCCL_SOCKET_IFNAME": "lo"}  # where ranks on GPUs find each other, and nobody else


class EngineSpawner:
    """Call it for a process. Leaving its context ends one that was started and never used."""

    def __init__(self) -> None:
        self._ahead: Spawned | None = None

    def start_ahead(self) -> None:
        """Have the next process ready. Raises OSError."""
        self._ahead = self._ahead or self._spawn()

    @property
    def ahead(self) -> Spawned | None:
        """The process that is ready and that nobody has taken."""
        return self._ahead

    def __call__(self) -> Spawned:
        """Raises OSError."""
        spawned, self._ahead = self._ahead or self._spawn(), None
        return spawned

    def cancel(self) -> None:
        """End the process that was started ahead, if nobody has taken it."""
        if self._ahead is not None:
            self._ahead.kill()
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def _spawn(self) -> Spawned:
        return spawn(
            [sys.executable, "-P", "-m", "thirdeye.server.load.engine_main"], engine_environment()
        )


def engine_environment() -> dict[str, str]:
    """The environment of the engine's process and its children: this one's, without the current
    folder on the path of imports, and with OpenMP's waiting made polite.

    A thread that sleeps at a barrier takes 50 to 100 us to wake up, two hundred times a step; one
    that spins for ever keeps the API and the clients from its core. So it spins a quarter of a
    millisecond, longer than the gaps within a step, and then sleeps. (GNU's OpenMP, which torch
    brings along.) Whoever sets OMP_WAIT_POLICY has decided otherwise.
    """
    environment = LOOPBACK | dict(os.environ) | SAFE_PATH  # noqa: TID251 (handed on)
    return environment if "OMP_WAIT_POLICY" in environment else SPIN | environment
