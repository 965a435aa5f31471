"""What a bug leaves in the log: types and stacks, never a text."""

import logging

import pytest

from thirdeye.server.logs import Seldom, log_bug

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
