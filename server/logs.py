"""Logging: one line per request at its end, and bugs by their stack alone.

As text for people, or as JSON, an object a line, for what collects logs.

Never a prompt, an answer or a key. What comes from a caller (an id, a model's name) is stripped of
control characters and cut, so that no line can be forged.
"""

import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from textwrap import indent

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
TEXT = "%(asctime)s %(levelname)s %(message)s"
QUIET = (
    *("sse_starlette", "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio"),
    *("httpx", "httpx2"),  # the second is the hub's client: its addresses are signed
)
MAX_CHARS = 512  # what a value of `metadata` may have


def configure(level: str = "info", log_format: str = "text") -> None:
    """Log to stderr. The libraries that would print chunks or query strings are kept quiet."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=_LEVELS.get(level, logging.INFO), handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # What is no HTTP is logged before any key is asked for: a line each would fill the disk.
    logging.getLogger("uvicorn.error").addFilter(Seldom())


class LogFields:
    """What a line says by names: a JSON object at the end of a text, or the line's own fields."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        """Strings are cleaned."""
        self.by_name = {name: _safe(value) for name, value in fields.items()}

    def __str__(self) -> str:
        return json.dumps(self.by_name)


class JsonFormatter(logging.Formatter):
    """An object a line: time (UTC), level, logger, message, and the `LogFields` of the record. What
    is raised has its stack in `stack`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        args = record.args if isinstance(record.args, tuple) else ()
        if len(args) == 1 and isinstance(args[0], LogFields):
            line |= {"message": record.msg.partition(" ")[0], **args[0].by_name}
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Seldom(logging.Filter):
    """Of warnings that say the same, one in `seconds`; the next one tells how many were left out.

    What is above `level` passes: errors carry stacks that somebody has to see.
    """

    def __init__(
        self,
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        level: int = logging.WARNING,
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._level = level
        self._clock = clock
        self._last: dict[str, float] = {}  # message to time; messages are literals of the code
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, message = self._clock(), str(record.msg)
        if record.levelno > self._level:
            return True
        if now - self._last.get(message, -self._seconds) < self._seconds:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        self._last[message] = now
        if more := self._left_out.pop(message, 0):
            record.msg = f"{message} ({more} more like this)"
        return True


def clean(text: str) -> str:
    """Text from outside, safe in a log line: no control characters, and not too long."""
    text = text[:MAX_CHARS]
    if text.isprintable():  # nearly all are, and the loop would call once for each character
        return text
    return "".join([char if char.isprintable() else "?" for char in text])


def log_request(logger: logging.Logger, fields: Mapping[str, object]) -> None:
    """One JSON line; strings in it are cleaned."""
    logger.info("request %s", LogFields(fields))


def _safe(value: object) -> object:
    if isinstance(value, Mapping):
        return {clean(name): _safe(inner) for name, inner in value.items()}
    return clean(value) if isinstance(value, str) else value


def log_bug(logger: logging.Logger, request_id: str, bug: BaseException) -> None:
    """A bug's type and stack; of a group those of each member, too.

    Its text may quote what a caller sent, so it is left out.
    """
    logger.error("bug in %s: %s", clean(request_id), _type_and_stack(bug))


def _type_and_stack(bug: BaseException) -> str:
    members = bug.exceptions if isinstance(bug, BaseExceptionGroup) else ()
    inside = [indent(_type_and_stack(member), "  ") for member in members]
    stack = traceback.format_tb(bug.__traceback__)
    return "".join([type(bug).__name__, "\n", *stack, *inside])
