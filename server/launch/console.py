"""What the command says to whoever started it: lines on stdout, a failure's last word on stderr."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

QUIET_BELOW = 1 << 28  # bytes: a smaller model is there before its second line could be read


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fail(message: str) -> int:
    """The exit status of a command that cannot do what it was asked."""
    sys.stderr.write(f"thirdeye: {message}\n")
    return 1


def bar_of_bytes(console: Console) -> Progress:
    """What, how much of it in bytes, how quickly, and how long it will be."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


class LoadingProgress:
    """How far a model's weights are: a bar on a terminal; elsewhere a line for each tenth, if the
    model is no small one. Call it with (phase, bytes done, bytes in all)."""

    def __init__(
        self,
        name: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._clock = clock
        self._first: tuple[float, int] | None = None  # when, and the bytes that were there
        self._tenth = 0
        self._bar = bar_of_bytes(self._console) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(f"loading {self._name}", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:  # noqa: ARG002 (there is one)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
            return
        now = self._clock()
        self._first = began, first = self._first or (now, done)
        if total >= QUIET_BELOW and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            speed = (now - began) / (done - first) if done > first else None
            left = "" if speed is None else f", {speed * (total - done):.0f} s left"
            self._console.print(
                f"loading {self._name}: {done / total:.0%}, {done / 1e9:.2f} of {total / 1e9:.2f} "
                f"GB{left}",
                markup=False,
            )
