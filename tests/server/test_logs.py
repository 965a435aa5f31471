"""What a bug leaves in the log: types and stacks, never a text."""

import logging

import pytest

from thirdeye.server.logs import log_bug

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
