"""The ready line says what is served, and which fast path does not apply."""

from types import SimpleNamespace

import msgspec
import pytest

from tests.engine.process.fake_engine import fake_info
from thirdeye.server.launch.open_door import open_door_line
from thirdeye.server.launch.server_run import ready_line
from thirdeye.server.launch.several.pool_server import PoolServer
from thirdeye.server.transport.server import bind, url_of

URL = "http://127.0.0.1:8000"
INFO = fake_info()


def test_what_is_missed_is_shown_with_its_reason() -> None:
    missed = msgspec.structs.replace(INFO, missed_paths=["tape: aten.relu.default"])
    line = ready_line(URL, "m", missed, 1.0)
    assert " KV blocks, no tape: aten.relu.default)" in line
    assert "\n" not in line
    assert "tape" not in ready_line(URL, "m", INFO, 1.0)


def test_a_model_that_guesses_is_named() -> None:
    line = ready_line(URL, "m", msgspec.structs.replace(INFO, draft="small, 0.1 M parameters"), 1.0)
    assert " KV blocks, drafts by small, 0.1 M parameters)" in line


WORDS = {
    "0.0.0.0": "any of its addresses",
    "[::]": "any of its addresses",
    "10.0.0.7": "10.0.0.7",
    "[fe80::1]": "fe80::1",
    "[::ffff:10.0.0.1]": "::ffff:",
}


@pytest.mark.parametrize("host", WORDS)
def test_a_server_that_others_reach_without_a_key_is_warned_of(host: str) -> None:
    (line,) = open_door_line(f"http://{host}:8000", has_key=False)
    assert f"({WORDS[host]}" in line
    assert "--api-key-file" in line
    assert open_door_line(f"http://{host}:8000", has_key=True) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.9.9.9", "[::ffff:127.0.0.1]"])
def test_one_that_only_this_machine_reaches_is_not(host: str) -> None:
    assert open_door_line(f"http://{host}:8000", has_key=False) == []


@pytest.mark.parametrize(("asked", "is_open"), [("", True), ("0", True), ("localhost", False)])
def test_it_is_the_address_that_was_bound_that_counts(asked: str, is_open: bool) -> None:
    """An empty host is all addresses, and so is 0."""
    with bind(asked, 0) as sock:
        assert bool(open_door_line(url_of(sock), has_key=False)) == is_open


def test_a_server_of_several_models_warns_as_well() -> None:
    """Its lines come from another place."""
    server = PoolServer.__new__(PoolServer)
    server.pool = SimpleNamespace(
        residency=SimpleNamespace(max_bytes=2**30), members={},
        default=SimpleNamespace(state=SimpleNamespace(keys=[])),
    )  # type: ignore[assignment]  # what the lines are made of  # fmt: skip
    assert "WARNING" in server._lines("http://0.0.0.0:8000", 1.0)[-1]
    assert "WARNING" not in server._lines("http://127.0.0.1:8000", 1.0)[-1]
