"""What the command says to whoever started it: lines on stdout, a failure's last word on stderr."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

QUIET_BELOW = 1 << 28  # bytes: a smaller model is there before its second line could be read


class PlainConsole(Console):
    """A text is what it says: no markup, and nothing that steers a terminal. Names come from files
    and from the hub, and anybody may have written those."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    """`text` with ? for what is no character to be seen, but for ends of lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def one_line(name: str) -> str:
    """A name as part of a line: it makes no second one."""
    return printable(name).replace("\n", "?")


class ServersConsole(PlainConsole):
    """Of a command that goes on where a list would end: whoever read its lines may leave."""

    def on_broken_pipe(self) -> None:
        read_no_more(sys.stderr if self.stderr else sys.stdout)


def say(line: str) -> None:
    _write(sys.stdout, printable(line))


def warn(message: str) -> None:
    _write(sys.stderr, f"thirdeye: {printable(message)}")


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        read_no_more(stream)


def read_no_more(stream: TextIO) -> None:
    """Let everything that is written there from now on be lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def fail(message: str) -> int:
    """The exit status of a command that cannot do what it was asked."""
    warn(message)
    return 1


def bar_of_bytes(console: Console) -> Progress:
    """What, how much of it in bytes, how quickly, and how long it will be."""
    return Progress(
        TextColumn("{task.description}", markup=False),
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
        self._name = one_line(name)
        self._console = console or ServersConsole(soft_wrap=True)
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
