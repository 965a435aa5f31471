"""Small things that a program at a terminal needs: messages over several lines, safe output, speed.

Pure functions, but for the one that keeps keys from the screen: no console, no network.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thirdeye.clients.types import Answer

if sys.platform != "win32":
    import termios

FENCE = '"""'

# A model is not to be trusted with the terminal. ESC and its kin move cursors and set titles (C0,
# DEL and C1, less newline and tab). Embeddings, overrides and isolates of direction show a line
# in another order than it has. Line separators, deprecated format characters and tags show nothing
# and are copied along. Joiners, which emoji and scripts need, stay.
_DROPPED = dict.fromkeys(
    {
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x2070),
        *range(0xFFF9, 0xFFFC),
        *range(0xE0000, 0xE0080),
    }
    - {ord("\n"), ord("\t")}
)


def printable(text: str) -> str:
    """`text` without what steers a terminal or hides in a line, newline and tab excepted."""
    return text.translate(_DROPPED)


@contextmanager
def unechoed() -> Iterator[None]:
    """Keys pressed meanwhile are not shown: a `^C` on the screen would shift what is drawn anew.

    Nor does the terminal, at a `^C`, throw away what was written and is not on the screen yet: it
    does so after the signal, when the program may have said already that it stopped. Nothing is
    changed where the input is no terminal, or on Windows.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    shown = termios.tcgetattr(fd)
    hidden = [*shown[:3], shown[3] & ~termios.ECHO | termios.NOFLSH, *shown[4:]]
    termios.tcsetattr(fd, termios.TCSANOW, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, shown)


def read_message(read_line: Callable[[str], str], prompt: str = "", more: str = "") -> str:
    """One message. It goes on over lines after a backslash at a line's end, or between FENCEs.

    `read_line` shows a prompt and gives a line; its EOFError passes through, but the end of the
    input also ends a message that has begun.
    """
    line = read_line(prompt)
    if line.startswith(FENCE):
        return _read_block(line.removeprefix(FENCE), read_line, more)
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        if (following := _next(read_line, more)) is None:
            break
        lines.append(following)
    return "\n".join(lines)


def _read_block(first: str, read_line: Callable[[str], str], more: str) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(FENCE):
        if (following := _next(read_line, more)) is None:
            break
        lines.append(following)
    lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
    return "\n".join(lines).strip("\n")


def _next(read_line: Callable[[str], str], prompt: str) -> str | None:
    try:
        return read_line(prompt)
    except EOFError:
        return None


def describe_speed(answer: Answer, first: float, total: float, num_chunks: int = 0) -> str:
    """One line of numbers; the server's timings where it sends them, else the clock of this side.

    `first` and `total` are the seconds from sending to the first text and to the end. A server
    counts at the end: of an answer that was stopped, or of a server that never does, the
    `num_chunks` that had text are the count, most have one token.
    """
    usage, timings = answer.usage, answer.timings or {}
    if usage is None and not num_chunks:
        return f"{first:.2f} s to the first text, {total:.2f} s in all; the server counts no tokens"
    if usage is None:
        rate = num_chunks / (total - first) if total > first else 0.0
        return (
            f"about {num_chunks} answer tokens, by the pieces of text that came, "
            f"{first:.2f} s to the first, {rate:.1f} tokens/s"
        )
    first = _number(timings.get("ttft_ms"), first * 1000) / 1000
    decoding = _number(timings.get("predicted_ms"), (total - first) * 1000) / 1000
    rate = usage.completion_tokens / decoding if decoding > 0 else 0.0
    rate = _number(timings.get("predicted_per_second"), rate)
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    return (
        f"{usage.prompt_tokens} prompt tokens{cached}, {usage.completion_tokens} answer tokens, "
        f"{first:.2f} s to the first, {rate:.1f} tokens/s"
    )


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else otherwise
