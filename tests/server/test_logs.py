"""What a bug leaves in the log: types and stacks, never a text."""

import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import make_recipe
from thirdeye.server.logs import JsonFormatter, LogFields, Seldom, log_bug, log_request
from thirdeye.server.settings.api_settings import LOG_LEVELS

PROMPT = "a caller's own words"


def fails(bug: Exception) -> Exception:
    """`bug` with a stack."""
    try:
        raise bug
    except Exception as raised:
        return raised


def logged(bug: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    log_bug(logging.getLogger("thirdeye.test"), "req-1", bug)
    (record,) = caplog.records
    return record.getMessage()


def test_a_bug_is_named_by_its_type_and_stack_alone(caplog: pytest.LogCaptureFixture) -> None:
    text = logged(fails(KeyError(PROMPT)), caplog)
    assert text.startswith("bug in req-1: KeyError\n")
    assert "in fails" in text
    assert PROMPT not in text


def test_a_group_names_its_members_and_theirs(caplog: pytest.LogCaptureFixture) -> None:
    inner = ExceptionGroup(PROMPT, [fails(ZeroDivisionError(PROMPT))])
    text = logged(fails(ExceptionGroup(PROMPT, [fails(KeyError(PROMPT)), inner])), caplog)
    lines = text.splitlines()
    assert lines[0] == "bug in req-1: ExceptionGroup"
    assert [line for line in lines if line.strip().endswith(("Error", "Group"))][1:] == [
        "  KeyError",
        "  ExceptionGroup",
        "    ZeroDivisionError",
    ]
    assert text.count("in fails") == 3  # each one's own stack
    assert PROMPT not in text


def test_the_same_warning_is_told_once_a_second_with_a_count() -> None:
    now = [0.0]
    seldom = Seldom(seconds=1.0, clock=lambda: now[0])

    def told(message: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("uvicorn.error", level, "", 0, message, (), None)
        return record.msg if seldom.filter(record) else None

    assert [told("no HTTP") for _ in range(100)] == ["no HTTP", *[None] * 99]
    assert told("another") == "another"
    assert told("no HTTP", logging.ERROR) == "no HTTP", "errors are never left out"
    now[0] = 1.0
    assert told("no HTTP") == "no HTTP (99 more like this)"
    assert told("no HTTP") is None
    now[0] = 2.5
    assert told("no HTTP") == "no HTTP (1 more like this)"


def test_errors_can_be_told_seldom_too() -> None:
    seldom = Seldom(seconds=1.0, clock=lambda: 0.0, level=logging.ERROR)
    record = logging.LogRecord("a", logging.ERROR, "", 0, "gone", (), None)
    assert [seldom.filter(record) for _ in range(3)] == [True, False, False]


def as_json(log: Any) -> list[dict[str, Any]]:
    """What `log(logger)` writes in JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("thirdeye.test")
    logger.addHandler(handler)
    log(logger)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_an_object_a_line_with_the_fields_beside_the_rest() -> None:
    (line,) = as_json(lambda logger: log_request(logger, {"id": "r\n1", "t": {"ms": 1.5}}))
    time = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "thirdeye.test",
        "message": "request",
        "id": "r?1",
        "t": {"ms": 1.5},
    }


def test_json_keeps_a_stack_on_its_line() -> None:
    def log(logger: logging.Logger) -> None:
        logger.warning("%d of\n%s", 3, "a")
        log_bug(logger, "req-1", fails(KeyError(PROMPT)))
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logger.exception("a bug of ours")

    warning, bug, exception = as_json(log)
    assert (warning["level"], warning["message"]) == ("warning", "3 of\na")
    assert "in fails" in bug["message"]
    assert exception["message"] == "a bug of ours"
    assert exception["stack"].endswith("ZeroDivisionError")


def test_text_and_json_say_the_same() -> None:
    fields = {"id": "1", "finish": "stop"}
    assert json.loads(str(LogFields(fields))) == fields


@pytest.mark.parametrize("level", LOG_LEVELS)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_process_writes_its_level_and_format(level: str, log_format: str) -> None:
    """As both processes configure it: a root logger can be set up once a process."""
    code = (
        "import logging, sys; from thirdeye.server import logs\n"
        "logs.configure(*sys.argv[1:])\n"
        "for level in ('debug', 'info', 'warning', 'error'): getattr(logging, level)('a line')\n"
    )
    command = [sys.executable, "-c", code, level, log_format]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    lines = done.stderr.splitlines()
    assert len(lines) == 4 - [*LOG_LEVELS].index(level)
    if log_format == "json":
        assert next(json.loads(line)["level"] for line in lines) == level
    else:
        assert all(line.endswith("a line") for line in lines)


def test_the_engines_process_is_told_both() -> None:
    recipe = make_recipe(log_level="warning", log_format="json")
    assert (recipe.log_level, recipe.log_format) == ("warning", "json")
