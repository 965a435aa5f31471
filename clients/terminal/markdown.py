"""An answer as it is written to the terminal: as it is, or as Markdown while it streams.

Markdown cannot be drawn a token at a time: a fence or a star changes what came before it. But a
block that a blank line has ended stays as it is. So finished blocks are printed for good, and the
last one is drawn anew with each token, cropped to the screen's last lines. Links are shown with
their address: a model must not hide one.
"""

import re
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


class View(Protocol):
    """Where the pieces of an answer go. `close` ends it, whole or not, on a line of its own."""

    def write(self, text: str) -> None: ...

    def close(self) -> None: ...


class PlainView:
    """Every piece as it comes. An answer without a piece leaves no line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._has_begun = False

    def write(self, text: str) -> None:
        self._has_begun = True
        self._console.out(text, end="", highlight=False)

    def close(self) -> None:
        if self._has_begun:
            self._console.out("")


class MarkdownView:
    """Blocks that are done, printed; below them the one that still grows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def write(self, text: str) -> None:
        if not text:
            return
        done, self._rest = split_blocks(self._rest + text)
        self._live.start()
        if done.strip():
            self._console.print(markdown(done), end="")
            self._console.print()
        self._live.update(Tail(self._rest), refresh=True)

    def close(self) -> None:
        self._live.stop()
        if self._rest.strip():
            self._console.print(markdown(self._rest))


class Tail:
    """The last lines of a block, as many as the screen has: what is new is at the bottom."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(markdown(self._text), options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


def markdown(text: str) -> Markdown:
    return Markdown(text, hyperlinks=False)


def split_blocks(text: str) -> tuple[str, str]:
    """What is ended by a blank line outside of fenced code, and the rest; together they are `text`.

    >>> split_blocks("One.\\n\\nTwo")
    ('One.\\n\\n', 'Two')
    >>> split_blocks("```\\n\\ncode")
    ('', '```\\n\\ncode')
    """
    fence, place, end = "", 0, 0
    for line in text.splitlines(keepends=True):
        place += len(line)
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and mark.group(1).startswith(fence) and not line[mark.end() :].strip():
            fence = ""
        elif not fence and not line.strip() and line.endswith("\n"):
            end = place
    return text[:end], text[end:]
