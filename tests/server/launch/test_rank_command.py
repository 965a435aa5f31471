"""`thirdeye rank` while there is no rank 0."""

import socket

import pytest

from thirdeye.server.engine.distributed.rank_listener import HostAddress
from thirdeye.server.launch.commands import rank_command


def test_why_nobody_is_found_is_said_once_for_each_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = socket.gaierror(-2, "Name or service not known")
    refused = ConnectionRefusedError(111, "Connection refused")
    comes = [unknown, unknown, TimeoutError("timed out"), refused, refused]
    ours, theirs = socket.socketpair()

    def create_connection(*_: object) -> socket.socket:
        if comes:
            raise comes.pop(0)
        return ours

    pauses: list[float] = []
    monkeypatch.setattr(socket, "create_connection", create_connection)
    monkeypatch.setattr(rank_command.time, "sleep", pauses.append)
    with theirs, rank_command.connect(HostAddress("hots", 7000)) as found:
        assert found is ours
    assert pauses == [rank_command.AGAIN] * 5
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"nobody answers at hots:7000 yet ({why}), it is asked again every second"
        for why in ("Name or service not known", "timed out", "Connection refused")
    ]
