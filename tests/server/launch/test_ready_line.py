"""The ready line says what is served, and which fast path does not apply."""

import msgspec
import pytest

from tests.engine.process.fake_engine import fake_info
from thirdeye.server.launch.server_run import open_door_line, ready_line

URL = "http://127.0.0.1:8000"
INFO = fake_info()


def test_what_is_missed_is_shown_with_its_reason() -> None:
    missed = msgspec.structs.replace(INFO, missed_paths=["tape: aten.relu.default"])
    line = ready_line(URL, "m", missed, 1.0)
    assert " KV blocks, no tape: aten.relu.default)" in line
    assert "\n" not in line
    assert "tape" not in ready_line(URL, "m", INFO, 1.0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "model.example"])
def test_a_server_that_others_reach_without_a_key_is_warned_of(host: str) -> None:
    (line,) = open_door_line(host, has_key=False)
    assert host in line
    assert "--api-key-file" in line
    assert open_door_line(host, has_key=True) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_one_that_only_this_machine_reaches_is_not(host: str) -> None:
    assert open_door_line(host, has_key=False) == []
