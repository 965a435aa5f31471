"""A fast path that is refused says so once, with the first reason."""

import logging

import pytest

from thirdeye.model.fast_path import FastPath


def test_the_first_reason_stays_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    path = FastPath("tape")
    assert not path.reason
    with caplog.at_level(logging.WARNING):
        path.refuse("aten.relu.default")
        path.refuse("aten.cat.default")
    assert str(path) == "tape: aten.relu.default"
    assert [record.getMessage() for record in caplog.records] == [
        "steps go without the tape, which is faster: aten.relu.default"
    ]
    assert not path.is_taken


def test_a_path_in_parts_is_taken_until_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """What refuses it later is worth a line of its own."""
    path = FastPath("tape")
    with caplog.at_level(logging.WARNING):
        path.interrupt("aten.relu.default")
        path.interrupt("aten.cat.default")
        assert path.is_taken
        assert str(path) == "whole tape: aten.relu.default"
        path.refuse("aten.nonzero.default")
        path.interrupt("aten.cat.default")
    assert not path.is_taken
    assert str(path) == "tape: aten.nonzero.default"
    assert [record.getMessage() for record in caplog.records] == [
        "steps go without the whole tape, which is faster: aten.relu.default",
        "steps go without the tape, which is faster: aten.nonzero.default",
    ]
