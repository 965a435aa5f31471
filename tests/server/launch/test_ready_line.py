"""The ready line says what is served, and which fast path does not apply."""

import msgspec

from tests.engine.process.fake_engine import fake_info
from thirdeye.server.launch.server_run import ready_line

URL = "http://127.0.0.1:8000"
INFO = fake_info()


def test_what_is_missed_is_shown_with_its_reason() -> None:
    missed = msgspec.structs.replace(INFO, missed_paths=["tape: aten.relu.default"])
    line = ready_line(URL, "m", missed, 1.0)
    assert " KV blocks, no tape: aten.relu.default)" in line
    assert "\n" not in line
    assert "tape" not in ready_line(URL, "m", INFO, 1.0)
