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
